//! Job output as lines of styled text.
//!
//! Output is hostile. Of everything a terminal would obey only colours and weight survive (SGR), as
//! names of CSS classes from a fixed list; cursor movement, titles, hyperlinks (OSC 8), the clipboard
//! (OSC 52) and every other control are dropped. What is left is plain text that the caller escapes or
//! puts into text nodes.

mod style;
mod text;

use std::fmt::Write as _;

pub use style::Style;

use text::{Decoded, Decoder};

/// Characters of one line that are shown; the rest is in the full log.
const MAX_LINE_CHARS: usize = 10_000;

/// How a line relates to what was rendered before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It starts below the former line.
    New,
    /// It continues the former line.
    Append,
    /// It takes the place of the former line: a carriage return, as progress bars use it.
    Replace,
}

/// Text in one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The look.
    pub style: Style,
    /// The text: no control characters but the tabulator.
    pub text: String,
}

/// One line, or the next part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How it relates to the former line.
    pub how: How,
    /// It came from the standard error stream.
    pub stderr: bool,
    /// Byte offset at which the line starts in the entry's output.
    pub at: u64,
    /// Its parts.
    pub spans: Vec<Span>,
}

impl Line {
    /// The line as HTML.
    pub fn html(&self) -> String {
        let mut html = String::with_capacity(64);
        let class = if self.stderr { "ln err" } else { "ln" };
        write!(html, "<div class=\"{class}\" data-at=\"{}\">", self.at)
            .expect("writing to a string");
        for span in &self.spans {
            let class = span.style.classes();
            if class.is_empty() {
                escape(&span.text, &mut html);
            } else {
                write!(html, "<span class=\"{class}\">").expect("writing to a string");
                escape(&span.text, &mut html);
                html.push_str("</span>");
            }
        }
        html.push_str("</div>\n");
        html
    }

    /// The line as the page's script wants it: `[how, stream, offset, [[classes, text], …]]`.
    pub fn json(&self) -> serde_json::Value {
        let how = match self.how {
            How::New => "n",
            How::Append => "a",
            How::Replace => "r",
        };
        let spans: Vec<_> =
            self.spans.iter().map(|s| serde_json::json!([s.style.classes(), s.text])).collect();
        serde_json::json!([how, if self.stderr { "e" } else { "o" }, self.at, spans])
    }
}

/// Writes `text` as HTML text or a double-quoted attribute value.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
}

/// Turns bytes of output, fed in pieces cut anywhere, into lines.
#[derive(Debug)]
pub struct Renderer {
    decoder: Decoder,
    style: Style,
    /// A line is on display that the next text continues.
    open: bool,
    /// A carriage return came; the next character starts the line again.
    returned: bool,
    stderr: bool,
    line_start: u64,
    line_chars: usize,
    settled: u64,
}

impl Renderer {
    /// Starts at byte `offset` of the output. `inside_line`: the byte before it is not a line feed, and
    /// the line it belongs to is already on display.
    pub fn new(offset: u64, inside_line: bool) -> Self {
        Self {
            decoder: Decoder::new(offset, inside_line),
            style: Style::default(),
            open: inside_line,
            returned: false,
            stderr: false,
            line_start: offset,
            line_chars: 0,
            settled: offset,
        }
    }

    /// Byte offset up to which everything has been rendered: a renderer started here continues without
    /// a torn character, escape sequence or carriage return. Only a colour that was switched on before
    /// is forgotten.
    pub fn end(&self) -> u64 {
        self.settled
    }

    /// Byte offset up to which output was taken; feeding goes on there.
    pub fn taken(&self) -> u64 {
        self.decoder.offset()
    }

    /// Renders the next piece.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for &byte in bytes {
            let mut decoded = Some(self.decoder.push(byte));
            while let Some(event) = decoded.take() {
                match event {
                    Decoded::Nothing => {}
                    Decoded::Text(c) => self.text(c, &mut lines),
                    Decoded::Again(c) => {
                        self.text(c, &mut lines);
                        decoded = Some(self.decoder.push(byte));
                    }
                    Decoded::Prefix { text } => text.chars().for_each(|c| self.text(c, &mut lines)),
                    Decoded::Stream { stderr } => self.stderr = stderr,
                    Decoded::Return => self.returned = true,
                    Decoded::Feed => self.line_feed(&mut lines),
                    Decoded::Sgr(params) => self.style.apply(&params),
                }
            }
            let resumable = self.open || self.decoder.at_line_start();
            if resumable && !self.returned && self.decoder.is_whole() {
                self.settled = self.decoder.offset();
            }
        }
        lines
    }

    fn text(&mut self, c: char, lines: &mut Vec<Line>) {
        if std::mem::take(&mut self.returned) && self.open {
            self.line_chars = 0;
            match lines.last_mut() {
                Some(line) => {
                    line.spans.clear();
                    if line.how == How::Append {
                        line.how = How::Replace;
                    }
                }
                None => lines.push(self.line(How::Replace)),
            }
        }
        self.line_chars += 1;
        let c = match self.line_chars {
            n if n > MAX_LINE_CHARS => return,
            MAX_LINE_CHARS => '…',
            _ => c,
        };
        let how = if self.open { How::Append } else { How::New };
        if !self.open || lines.is_empty() {
            lines.push(self.line(how));
        }
        self.open = true;
        let line = lines.last_mut().expect("a line was pushed if there was none");
        match line.spans.last_mut() {
            Some(span) if span.style == self.style => span.text.push(c),
            _ => line.spans.push(Span { style: self.style, text: c.to_string() }),
        }
    }

    fn line_feed(&mut self, lines: &mut Vec<Line>) {
        if !self.open {
            lines.push(self.line(How::New));
        }
        self.open = false;
        self.returned = false;
        self.stderr = false;
        self.line_chars = 0;
        self.line_start = self.decoder.offset();
    }

    fn line(&self, how: How) -> Line {
        Line { how, stderr: self.stderr, at: self.line_start, spans: Vec::new() }
    }
}

#[cfg(test)]
mod tests;

//! Makes the output of a job harmless for a terminal.
//!
//! A job's output is hostile: an escape sequence in it could rename the window, write to the
//! clipboard (OSC 52), disguise a link (OSC 8) or type into the shell. Only text, tabs and line ends
//! pass. The grammar is ECMA-48, as far as it is needed to know where a sequence ends.

/// Takes the sequences out of a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct Neutral {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After a carriage return; a line feed may follow.
    Return,
    /// After ESC.
    Escape,
    /// In a control sequence, up to its final byte.
    Control,
    /// In a string (OSC, DCS, SOS, PM, APC), up to BEL or ST.
    String,
    /// In a string, after ESC.
    StringEscape,
}

impl Neutral {
    /// The harmless part of the next piece. A sequence may begin in one piece and end in a later one.
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            self.step(c, &mut out);
        }
        out
    }

    fn step(&mut self, c: char, out: &mut String) {
        self.state = match (self.state, c) {
            (State::Text | State::Return, _) => self.text(c, out),
            (State::Escape, '[') => State::Control,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::String,
            // Intermediate bytes of a longer escape, such as the choice of a character set.
            (State::Escape, ' '..='/') => State::Escape,
            (State::Escape | State::Control, '\u{1b}') => State::Escape,
            (State::Escape, '\n') => self.text(c, out),
            (State::Escape, _) => State::Text,
            (State::Control, '\u{20}'..='\u{3f}') => State::Control,
            (State::Control, '\n') => self.text(c, out),
            (State::Control, _) => State::Text,
            (State::String | State::StringEscape, '\u{7}' | '\u{9c}') => State::Text,
            (State::StringEscape, '\\') => State::Text,
            (State::String | State::StringEscape, '\u{1b}') => State::StringEscape,
            // A string that never ends must not swallow the rest of the log.
            (State::String | State::StringEscape, '\n') => self.text(c, out),
            (State::String | State::StringEscape, _) => State::String,
        };
    }

    fn text(&self, c: char, out: &mut String) -> State {
        if self.state == State::Return && c != '\n' && c != '\r' {
            out.push('\n');
        }
        match c {
            '\u{1b}' => return State::Escape,
            '\u{9b}' => return State::Control,
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => return State::String,
            '\r' => return State::Return,
            '\n' | '\t' => out.push(c),
            c if c.is_control() || is_invisible_order(c) => {}
            c => out.push(c),
        }
        State::Text
    }
}

/// Characters that change the order in which others are shown (Unicode bidirectional controls).
fn is_invisible_order(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line for a table: no line ends either.
pub fn one_line(text: &str) -> String {
    Neutral::default().push(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(Neutral::default().push(input), expected, "{input:?}");
        let mut piecewise = Neutral::default();
        let pieces: String = input.chars().map(|c| piecewise.push(&c.to_string())).collect();
        assert_eq!(pieces, expected, "in pieces: {input:?}");
    }

    #[test]
    fn text_passes() {
        check("plain\ttext, größe 😀\n", "plain\ttext, größe 😀\n");
        check("dos\r\nunix\n", "dos\nunix\n");
        check("10%\r20%\r\r\n", "10%\n20%\n");
    }

    #[test]
    fn sequences_do_not() {
        check("\u{1b}[31mred\u{1b}[0m", "red");
        check("\u{1b}[?1049h\u{1b}[2Ja", "a");
        check("\u{1b}]0;title\u{7}a", "a");
        check("\u{1b}]52;c;cm0gLXJm\u{1b}\\a", "a");
        check("\u{1b}]8;;http://evil\u{1b}\\good\u{1b}]8;;\u{1b}\\", "good");
        check("\u{1b}P1$r\u{1b}x\u{1b}\\a", "a");
        check("\u{9b}31ma\u{9d}52;c;x\u{9c}b", "ab");
        check("\u{1b}(0a\u{1b}cb\u{8}\u{7f}\u{0}", "ab");
        check("user\u{202e}txt.exe", "usertxt.exe");
    }

    #[test]
    fn an_unfinished_sequence_ends_with_its_line() {
        check("\u{1b}]52;c;never closed\nnext line\n", "\nnext line\n");
        check("\u{1b}[12\nnext", "\nnext");
    }
}

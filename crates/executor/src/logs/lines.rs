//! Output as lines with the prefixes of the protocol.

/// A line longer than this is broken; nothing of it is lost.
const LONGEST_LINE: usize = 16 << 20;

/// Where a step wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The prefix of each line. Batch changes parse results out of lines with exactly this prefix.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Self::Stdout => b"stdout: ",
            Self::Stderr => b"stderr: ",
        }
    }
}

/// Cuts one stream into lines. A carriage return before a line feed is dropped.
pub(super) struct Lines {
    prefix: &'static [u8],
    partial: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: Stream) -> Self {
        Self { prefix: stream.prefix(), partial: Vec::new() }
    }

    /// Appends the lines that `chunk` completes to `out`.
    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            self.write_line(out);
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() > LONGEST_LINE {
            self.write_line(out);
        }
    }

    /// The stream ended; an unfinished line gets its line feed.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.write_line(out);
        }
    }

    fn write_line(&mut self, out: &mut Vec<u8>) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        out.extend_from_slice(self.prefix);
        out.extend_from_slice(line);
        out.push(b'\n');
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_prefixed_and_completed() {
        let mut lines = Lines::new(Stream::Stdout);
        let mut out = Vec::new();
        lines.push(b"a", &mut out);
        assert!(out.is_empty());
        lines.push(b"b\r\n\nc", &mut out);
        lines.finish(&mut out);
        lines.finish(&mut out);
        assert_eq!(out, b"stdout: ab\nstdout: \nstdout: c\n");
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mut lines = Lines::new(Stream::Stderr);
        let mut out = Vec::new();
        lines.push(&vec![b'x'; LONGEST_LINE + 1], &mut out);
        assert!(out.len() > LONGEST_LINE);
        assert!(lines.partial.is_empty());
    }
}

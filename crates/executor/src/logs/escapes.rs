//! What a person sees of output: terminal escapes and carriage returns are left out, so that a
//! coloured or moved secret is still one.

/// Longer unfinished sequences are not sequences.
const LONGEST: usize = 4096;
const ESC: u8 = 0x1b;

/// The visible bytes of a text, and where each comes from.
pub(super) struct Visible<'a> {
    raw: &'a [u8],
    /// `None` when everything is visible.
    filtered: Option<(Vec<u8>, Vec<usize>)>,
    /// Length of the text without an unfinished escape at its end.
    complete: usize,
}

impl<'a> Visible<'a> {
    pub(super) fn of(raw: &'a [u8]) -> Self {
        if !raw.iter().any(|byte| matches!(*byte, ESC | b'\r')) {
            return Self { raw, filtered: None, complete: raw.len() };
        }
        let mut bytes = Vec::with_capacity(raw.len());
        let mut origin = Vec::with_capacity(raw.len());
        let mut complete = raw.len();
        let mut at = 0;
        while at < raw.len() {
            match raw[at] {
                b'\r' => at += 1,
                ESC => match sequence_length(&raw[at..]) {
                    Some(length) => at += length,
                    None if raw.len() - at <= LONGEST => {
                        complete = at;
                        break;
                    }
                    None => at += 1,
                },
                byte => {
                    bytes.push(byte);
                    origin.push(at);
                    at += 1;
                }
            }
        }
        Self { raw, filtered: Some((bytes, origin)), complete }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.filtered.as_ref().map_or(self.raw, |(bytes, _)| bytes)
    }

    /// Index in the text of a visible byte; one past the last visible byte is the end of the text.
    pub(super) fn raw_index(&self, visible: usize) -> usize {
        match &self.filtered {
            None => visible,
            Some((_, origin)) => origin.get(visible).copied().unwrap_or(self.raw.len()),
        }
    }

    pub(super) fn complete(&self) -> usize {
        self.complete
    }
}

/// Length of the escape sequence at the start of `text` (ECMA-48 §5.4, §5.6); `None` while unfinished.
fn sequence_length(text: &[u8]) -> Option<usize> {
    match text.get(1)? {
        // Control sequence: parameters, intermediates, one final byte.
        b'[' => {
            let end = text[2..].iter().position(|byte| !(0x20..=0x3f).contains(byte))?;
            Some(2 + end + 1)
        }
        // Control strings (titles, links, clipboard): up to BEL or ST.
        b']' | b'P' | b'_' | b'^' | b'X' => {
            let end = text[2..].iter().position(|byte| matches!(*byte, 0x07 | ESC))?;
            match text[2 + end] {
                0x07 => Some(2 + end + 1),
                _ => text.get(2 + end + 1).map(|_| 2 + end + 2),
            }
        }
        _ => Some(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_titles_and_carriage_returns_are_invisible() {
        let text = b"a\x1b[1;31mb\x1b[0mc\r\x1b]0;title\x07d\x1b]8;;x\x1b\\e";
        let visible = Visible::of(text);
        assert_eq!(visible.bytes(), b"abcde");
        assert_eq!(visible.complete(), text.len());
        assert_eq!(visible.raw_index(1), 8);
        assert_eq!(visible.raw_index(5), text.len());
    }

    #[test]
    fn an_unfinished_escape_is_not_complete() {
        assert_eq!(Visible::of(b"abc\x1b[3").complete(), 3);
        assert_eq!(Visible::of(b"abc\x1b").complete(), 3);
    }
}

//! From bytes to characters, line ends and colour sequences; the rest of the terminal's language is
//! recognised only in order to be dropped.

/// Parameter bytes of a sequence that are kept; longer ones are dropped whole.
const MAX_PARAMS: usize = 64;
/// A control string (OSC, DCS, …) that does not end is given up after this many bytes or at the end of
/// the line, so that it cannot swallow the rest of the log.
const MAX_STRING: usize = 8 * 1024;

/// What one byte led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// Nothing to show (yet).
    Nothing,
    /// A character.
    Text(char),
    /// A character for what came before; the byte itself must be pushed again.
    Again(char),
    /// The start of a line looked like a stream prefix and was not one.
    Prefix { text: String },
    /// A stream prefix: `stdout: ` or `stderr: `.
    Stream { stderr: bool },
    /// Carriage return.
    Return,
    /// Line feed.
    Feed,
    /// Select graphic rendition, with its parameters.
    Sgr(Vec<u8>),
}

#[derive(Debug)]
enum State {
    /// At the start of a line, with what may become a stream prefix.
    LineStart(String),
    Ground,
    /// Inside a UTF-8 character: bytes so far.
    Utf8(Vec<u8>),
    Escape,
    /// `ESC` and intermediate bytes (character sets and the like).
    EscapeIntermediate,
    Csi(Vec<u8>),
    /// Inside OSC, DCS, SOS, PM or APC: bytes so far, and whether the last was `ESC`.
    ControlString(usize, bool),
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    offset: u64,
}

impl Decoder {
    pub(super) fn new(offset: u64, inside_line: bool) -> Self {
        let state = if inside_line { State::Ground } else { State::LineStart(String::new()) };
        Self { state, offset }
    }

    /// Bytes taken so far, from the start of the output.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next byte starts a line.
    pub(super) fn at_line_start(&self) -> bool {
        matches!(&self.state, State::LineStart(seen) if seen.is_empty())
    }

    /// Nothing is half read.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, State::Ground) || self.at_line_start()
    }

    /// Takes one byte.
    pub(super) fn push(&mut self, byte: u8) -> Decoded {
        let state = std::mem::replace(&mut self.state, State::Ground);
        let decoded = match state {
            State::LineStart(seen) => self.line_start(seen, byte),
            State::Ground => self.ground(byte),
            State::Utf8(bytes) => self.utf8(bytes, byte),
            State::Escape => self.escape(byte),
            State::EscapeIntermediate => self.escape_intermediate(byte),
            State::Csi(params) => self.csi(params, byte),
            State::ControlString(length, escaped) => self.control_string(length, escaped, byte),
        };
        if matches!(decoded, Decoded::Again(_)) {
            return decoded;
        }
        self.offset += 1;
        decoded
    }

    fn line_start(&mut self, mut seen: String, byte: u8) -> Decoded {
        if byte.is_ascii_graphic() || byte == b' ' {
            seen.push(char::from(byte));
            match seen.as_str() {
                "stdout: " => return Decoded::Stream { stderr: false },
                "stderr: " => return Decoded::Stream { stderr: true },
                part if "stdout: ".starts_with(part) || "stderr: ".starts_with(part) => {
                    self.state = State::LineStart(seen);
                    return Decoded::Nothing;
                }
                _ => return Decoded::Prefix { text: seen },
            }
        }
        // Not a prefix: what was held back is text, and the byte is looked at afresh.
        let mut held = seen.chars();
        match held.next() {
            None => self.ground(byte),
            Some(first) => {
                let rest = held.as_str();
                if rest.is_empty() {
                    self.state = State::Ground;
                } else {
                    self.state = State::LineStart(rest.to_owned());
                }
                Decoded::Again(first)
            }
        }
    }

    fn ground(&mut self, byte: u8) -> Decoded {
        match byte {
            b'\n' => {
                self.state = State::LineStart(String::new());
                Decoded::Feed
            }
            b'\r' => Decoded::Return,
            b'\t' | 0x20..=0x7e => Decoded::Text(char::from(byte)),
            0x1b => {
                self.state = State::Escape;
                Decoded::Nothing
            }
            0x00..=0x1f | 0x7f => Decoded::Nothing,
            0xc2..=0xf4 => {
                self.state = State::Utf8(vec![byte]);
                Decoded::Nothing
            }
            0x80..=0xc1 | 0xf5..=0xff => Decoded::Text(char::REPLACEMENT_CHARACTER),
        }
    }

    fn utf8(&mut self, mut bytes: Vec<u8>, byte: u8) -> Decoded {
        bytes.push(byte);
        match std::str::from_utf8(&bytes) {
            Ok(text) => self.character(text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)),
            Err(error) if error.error_len().is_none() => {
                self.state = State::Utf8(bytes);
                Decoded::Nothing
            }
            // The byte does not continue the character: it starts something of its own.
            Err(_) => Decoded::Again(char::REPLACEMENT_CHARACTER),
        }
    }

    fn character(&mut self, c: char) -> Decoded {
        match c {
            '\u{9b}' => {
                self.state = State::Csi(Vec::new());
                Decoded::Nothing
            }
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
                self.state = State::ControlString(0, false);
                Decoded::Nothing
            }
            '\u{80}'..='\u{9f}' => Decoded::Nothing,
            // Marks that reorder or hide text: a line must read as it was written.
            '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{61c}'
            | '\u{feff}' => Decoded::Text(char::REPLACEMENT_CHARACTER),
            c => Decoded::Text(c),
        }
    }

    fn escape(&mut self, byte: u8) -> Decoded {
        match byte {
            b'[' => self.state = State::Csi(Vec::new()),
            b']' | b'P' | b'X' | b'^' | b'_' => self.state = State::ControlString(0, false),
            0x20..=0x2f => self.state = State::EscapeIntermediate,
            0x1b => self.state = State::Escape,
            b'\n' | b'\r' => return self.ground(byte),
            0x80..=0xff => return self.ground(byte),
            _ => {}
        }
        Decoded::Nothing
    }

    fn escape_intermediate(&mut self, byte: u8) -> Decoded {
        match byte {
            0x20..=0x2f => self.state = State::EscapeIntermediate,
            0x1b => self.state = State::Escape,
            b'\n' | b'\r' => return self.ground(byte),
            0x80..=0xff => return self.ground(byte),
            _ => {}
        }
        Decoded::Nothing
    }

    fn csi(&mut self, mut params: Vec<u8>, byte: u8) -> Decoded {
        match byte {
            0x20..=0x3f => {
                if params.len() <= MAX_PARAMS {
                    params.push(byte);
                }
                self.state = State::Csi(params);
                Decoded::Nothing
            }
            b'm' if params.len() <= MAX_PARAMS => Decoded::Sgr(params),
            0x40..=0x7e => Decoded::Nothing,
            0x1b => {
                self.state = State::Escape;
                Decoded::Nothing
            }
            b'\n' | b'\r' | 0x80..=0xff => self.ground(byte),
            // Other controls inside a sequence are dropped; CAN and SUB end it.
            0x18 | 0x1a => Decoded::Nothing,
            _ => {
                self.state = State::Csi(params);
                Decoded::Nothing
            }
        }
    }

    fn control_string(&mut self, length: usize, escaped: bool, byte: u8) -> Decoded {
        match byte {
            b'\n' => return self.ground(byte),
            0x07 | 0x18 | 0x1a => return Decoded::Nothing,
            b'\\' if escaped => return Decoded::Nothing,
            // U+009C, the one-character terminator, ends in this byte after 0xc2. A 0x9c inside another
            // character ends the string early, which shows text and hides none.
            0x9c => return Decoded::Nothing,
            _ => {}
        }
        if length < MAX_STRING {
            self.state = State::ControlString(length + 1, byte == 0x1b);
        }
        Decoded::Nothing
    }
}

//! The look that "select graphic rendition" sequences (ECMA-48 §8.3.117) ask for, reduced to eight
//! colours and six attributes: one CSS class each.

/// How text looks. The default is the page's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    foreground: Option<u8>,
    background: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    strike: bool,
    reverse: bool,
}

impl Style {
    /// The CSS classes, separated by blanks; empty for plain text.
    pub fn classes(self) -> String {
        let mut names: Vec<String> = Vec::new();
        let attributes = [
            (self.bold, "s-b"),
            (self.dim, "s-d"),
            (self.italic, "s-i"),
            (self.underline, "s-u"),
            (self.strike, "s-s"),
            (self.reverse, "s-r"),
        ];
        names.extend(attributes.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()));
        names.extend(self.foreground.map(|color| format!("f-{color}")));
        names.extend(self.background.map(|color| format!("k-{color}")));
        names.join(" ")
    }

    /// Applies the parameters of one sequence. Unknown ones are ignored.
    pub(super) fn apply(&mut self, params: &[u8]) {
        let Ok(text) = std::str::from_utf8(params) else { return };
        if text.starts_with(['?', '<', '=', '>']) || text.contains(' ') {
            return; // private sequences that only end in the same letter
        }
        let mut numbers = text
            .split([';', ':'])
            .map(|n| if n.is_empty() { 0 } else { n.parse().unwrap_or(u16::MAX) });
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 | 21 => self.underline = true,
                7 => self.reverse = true,
                9 => self.strike = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.reverse = false,
                29 => self.strike = false,
                30..=37 => self.foreground = Some((number - 30) as u8),
                90..=97 => self.foreground = Some((number - 90) as u8),
                39 => self.foreground = None,
                40..=47 => self.background = Some((number - 40) as u8),
                100..=107 => self.background = Some((number - 100) as u8),
                49 => self.background = None,
                38 => self.foreground = extended(&mut numbers).or(self.foreground),
                48 => self.background = extended(&mut numbers).or(self.background),
                _ => {}
            }
        }
    }
}

/// `5;N` (256 colours) or `2;R;G;B`, as the nearest of the eight.
fn extended(numbers: &mut impl Iterator<Item = u16>) -> Option<u8> {
    match numbers.next()? {
        5 => match numbers.next()? {
            n @ 0..=15 => Some((n % 8) as u8),
            n @ 16..=231 => {
                let cube = n - 16;
                let level = |value: u16| value * 51;
                Some(nearest(level(cube / 36), level(cube / 6 % 6), level(cube % 6)))
            }
            n @ 232..=255 => {
                let grey = (n - 232) * 10 + 8;
                Some(nearest(grey, grey, grey))
            }
            _ => None,
        },
        2 => {
            let (red, green, blue) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(nearest(red, green, blue))
        }
        _ => None,
    }
}

/// One bit for each channel that is bright: the order of the eight colours.
fn nearest(red: u16, green: u16, blue: u16) -> u8 {
    let bright = |value: u16| u8::from(value > 110);
    bright(red) | bright(green) << 1 | bright(blue) << 2
}

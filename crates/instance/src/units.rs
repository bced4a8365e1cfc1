//! Sizes and durations as people write them: `2G`, `512M`, `10m`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A number of bytes. Units are powers of 1024, as everywhere in the executor's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

/// Why a size or duration could not be read; the text says what is expected instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not `<number><unit>`.
    #[error("must be a number with a unit K, M, G or T, for example \"512M\"")]
    Size,
    /// Not `<number><unit>…`.
    #[error("must be a duration made of d, h, m and s, for example \"10m\" or \"1h30m\"")]
    Span,
    /// Larger than 64 bits hold.
    #[error("is too large")]
    TooLarge,
}

const SIZE_UNITS: [(char, u64); 4] =
    [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];
const SPAN_UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl Size {
    /// Whole mebibytes, rounded up, so that a limit is never below what was asked for.
    pub fn mebibytes(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

impl FromStr for Size {
    type Err = UnitError;

    /// Reads `1024`, `10k`, `512M`, `2G`, `2GB`, `2GiB`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number = parse_number(number, UnitError::Size)?;
        let unit = unit.to_ascii_uppercase();
        let letter = unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit);
        let factor = match letter {
            "" if unit.starts_with('I') => return Err(UnitError::Size),
            "" => 1,
            letter => SIZE_UNITS
                .iter()
                .find(|(name, _)| letter.len() == 1 && letter.starts_with(*name))
                .map(|(_, factor)| *factor)
                .ok_or(UnitError::Size)?,
        };
        number.checked_mul(factor).map(Self).ok_or(UnitError::TooLarge)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact =
            SIZE_UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match exact {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Span {
    /// The same as a standard duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    /// Reads `90s`, `10m`, `1h30m`, `30d`; units go from large to small, each at most once.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut total: u64 = 0;
        let mut units = SPAN_UNITS.iter();
        let mut rest = text;
        if rest.is_empty() {
            return Err(UnitError::Span);
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let number = parse_number(number, UnitError::Span)?;
            let letter = tail.chars().next().ok_or(UnitError::Span)?;
            let (_, factor) = units.find(|(name, _)| *name == letter).ok_or(UnitError::Span)?;
            let part = number.checked_mul(*factor).ok_or(UnitError::TooLarge)?;
            total = total.checked_add(part).ok_or(UnitError::TooLarge)?;
            rest = &tail[1..];
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (name, factor) in SPAN_UNITS {
            if rest / factor > 0 || (name == 's' && self.0 == 0) {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

fn parse_number(digits: &str, shape: UnitError) -> Result<u64, UnitError> {
    match digits {
        "" => Err(shape),
        digits => digits.parse().map_err(|_| UnitError::TooLarge),
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("10k", 10 << 10),
            ("512M", 512 << 20),
            ("2GiB", 2 << 30),
            ("1TB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "G", "1.5G", "2X", "-1G", "2 G", "2GG", "2iB", "1é"] {
            assert_eq!(bad.parse::<Size>(), Err(UnitError::Size), "{bad}");
        }
        assert_eq!("99999999999T".parse::<Size>(), Err(UnitError::TooLarge));
        assert_eq!(Size(2 << 30).to_string(), "2G");
        assert_eq!(Size(1).mebibytes(), 1);
    }

    #[test]
    fn durations_go_from_large_to_small() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("30d", 2_592_000)]
        {
            assert_eq!(text.parse(), Ok(Span(seconds)), "{text}");
        }
        for bad in ["", "10", "m", "1m1h", "1m1m", "1.5h", "1w", "1é"] {
            assert_eq!(bad.parse::<Span>(), Err(UnitError::Span), "{bad}");
        }
        assert_eq!(Span(5400).to_string(), "1h30m");
        assert_eq!(Span(0).to_string(), "0s");
    }
}

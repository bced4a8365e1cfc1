//! How much of a job's log a page has: the cursor of its live updates. It travels in the address and in
//! the ids of events, so that the instance remembers nothing and any replica can continue.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Entries that one cursor names at most.
const MAX_ENTRIES: usize = 2000;

/// `ATTEMPT` or `ATTEMPT.ENTRY:BYTES,ENTRY:BYTES…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The attempt shown; 0 before the first.
    pub attempt: i64,
    /// Bytes shown of each log entry that is on the page.
    pub shown: BTreeMap<i64, u64>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.attempt)?;
        for (place, (entry, bytes)) in self.shown.iter().enumerate() {
            let separator = if place == 0 { '.' } else { ',' };
            write!(f, "{separator}{entry}:{bytes}")?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (attempt, entries) = text.split_once('.').unwrap_or((text, ""));
        let attempt = attempt.parse().map_err(drop)?;
        let mut shown = BTreeMap::new();
        for entry in entries.split(',').filter(|entry| !entry.is_empty()) {
            let (entry, bytes) = entry.split_once(':').ok_or(())?;
            shown.insert(entry.parse().map_err(drop)?, bytes.parse().map_err(drop)?);
            if shown.len() > MAX_ENTRIES {
                return Err(());
            }
        }
        Ok(Self { attempt, shown })
    }
}

#[cfg(test)]
mod tests {
    use super::Position;

    #[test]
    fn a_position_survives_the_way_as_text() {
        let shown = [(1, 0), (2, 70_000)].into_iter().collect();
        for position in [Position::default(), Position { attempt: 3, shown }] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for bad in ["", "x", "1.2", "1.a:b", "1.2:-4"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }
}

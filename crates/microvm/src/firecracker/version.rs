//! Which versions of Firecracker are used, and which are refused by name.

use std::fmt;

/// The oldest that is used: the first with everything below mended.
pub const OLDEST: Version = Version(1, 16, 1);

/// Defects that let a guest or a local user out, from the first to the last version that has them.
const KNOWN_BAD: &[(Version, Version, &str)] = &[
    (
        Version(0, 0, 0),
        Version(1, 13, 1),
        "CVE-2026-1386: the jailer follows symbolic links as root",
    ),
    (
        Version(1, 14, 0),
        Version(1, 14, 0),
        "CVE-2026-1386: the jailer follows symbolic links as root",
    ),
    (
        Version(1, 13, 0),
        Version(1, 14, 3),
        "CVE-2026-5747: the guest writes out of bounds by virtio-pci",
    ),
    (
        Version(1, 15, 0),
        Version(1, 15, 0),
        "CVE-2026-5747: the guest writes out of bounds by virtio-pci",
    ),
];

/// Major, minor and patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Finds the version in what `firecracker --version` or `jailer --version` prints.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?;
        let word = line.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
        let mut numbers = word.split(['.', '-', '+']).map_while(|part| part.parse().ok());
        Some(Self(numbers.next()?, numbers.next()?, numbers.next()?))
    }

    /// Refuses versions that are not safe to use.
    ///
    /// # Errors
    /// Why not, with the names of known defects.
    pub fn check(self) -> Result<(), String> {
        if self >= OLDEST {
            return Ok(());
        }
        let mut known = KNOWN_BAD.iter().filter(|(from, to, _)| (*from..=*to).contains(&self));
        let Some((_, _, first)) = known.next() else {
            return Err(format!("Firecracker {self} is too old, {OLDEST} or later is needed"));
        };
        let more: String = known.map(|(_, _, defect)| format!("; {defect}")).collect();
        Err(format!("Firecracker {self} has {first}{more}; {OLDEST} or later is needed"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_print() {
        assert_eq!(Version::parse("Firecracker v1.16.1\n\nmore"), Some(Version(1, 16, 1)));
        assert_eq!(Version::parse("Jailer v1.17.0-dev"), Some(Version(1, 17, 0)));
        for text in ["", "Firecracker", "very well", "Firecracker v1.x"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn known_bad_versions_are_refused_by_name() {
        let refusal = |version: Version| version.check().unwrap_err();
        assert!(refusal(Version(1, 12, 0)).contains("CVE-2026-1386"));
        let both = refusal(Version(1, 14, 0));
        assert!(both.contains("CVE-2026-1386") && both.contains("CVE-2026-5747"), "{both}");
        assert!(refusal(Version(1, 15, 0)).contains("CVE-2026-5747"));
        assert!(refusal(Version(1, 16, 0)).contains("too old"));
        assert_eq!(Version(1, 16, 1).check(), Ok(()));
        assert_eq!(Version(2, 0, 0).check(), Ok(()));
    }
}

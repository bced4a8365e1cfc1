//! Domain names of an allow-list: normalised once, compared as normalised text, so that the check and
//! the connection can never read the same name differently.

use std::fmt;

/// A host name in its one normal form: ASCII (IDNA A-labels), lower case, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

/// Why a text is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a domain name: {problem}")]
pub struct DomainError {
    name: String,
    problem: &'static str,
}

impl Domain {
    /// Normalises a host name (RFC 1123 §2.1, RFC 5890).
    ///
    /// # Errors
    /// Empty labels, labels over 63 or names over 253 bytes, characters other than letters, digits,
    /// `-` and `_`, and anything that reads as an IP address.
    pub fn parse(name: &str) -> Result<Self, DomainError> {
        let error = |problem| DomainError { name: name.escape_debug().to_string(), problem };
        let trimmed = name.strip_suffix('.').unwrap_or(name);
        let ascii = if trimmed.is_ascii() {
            trimmed.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(trimmed).map_err(|_| error("not valid as IDNA"))?
        };
        if ascii.is_empty() || ascii.len() > 253 {
            return Err(error("it must have 1 to 253 characters"));
        }
        for label in ascii.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(error("each label must have 1 to 63 characters"));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(error("only letters, digits, '-', '_' and '.' may stand in it"));
            }
        }
        // A last label of digits (or 0x…) is read as an IPv4 address by some parsers (WHATWG URL).
        let last = ascii.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x").unwrap_or("g");
        if last.bytes().all(|b| b.is_ascii_digit()) || hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(error("it reads as an IP address"));
        }
        Ok(Self(ascii))
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `example.com` (that name alone) or `*.example.com` (any name below it, not itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPattern {
    below: bool,
    domain: Domain,
}

impl DomainPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// As [`Domain::parse`]; a `*` anywhere but as the first whole label.
    pub fn parse(pattern: &str) -> Result<Self, DomainError> {
        match pattern.strip_prefix("*.") {
            Some(rest) => Ok(Self { below: true, domain: Domain::parse(rest)? }),
            None => Ok(Self { below: false, domain: Domain::parse(pattern)? }),
        }
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &Domain) -> bool {
        if !self.below {
            return *name == self.domain;
        }
        name.0.strip_suffix(self.domain.as_str()).is_some_and(|head| head.ends_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let pattern = DomainPattern::parse(pattern).unwrap();
        Domain::parse(name).is_ok_and(|name| pattern.matches(&name))
    }

    #[test]
    fn tricks_with_names_do_not_pass() {
        assert!(matches("example.com", "example.com"));
        assert!(matches("example.com", "EXAMPLE.com."));
        assert!(matches("bücher.example", "xn--bcher-kva.example"));
        assert!(matches("*.example.com", "a.b.example.com"));
        for name in [
            "a.example.com",
            "example.com.evil.net",
            "notexample.com",
            "example.com\0.evil.net",
            "example.com%00.evil.net",
            "user@example.com",
            "example.com..",
            "example.com:443",
            "",
            ".",
        ] {
            assert!(!matches("example.com", name), "{name:?}");
        }
        assert!(!matches("*.example.com", "example.com"));
        assert!(!matches("*.example.com", "evilexample.com"));
    }

    #[test]
    fn addresses_are_not_names() {
        for name in ["1.2.3.4", "2130706433", "0x7f.1", "0x7f000001", "a.1", "[::1]", "1.2.0xff"] {
            assert!(Domain::parse(name).is_err(), "{name}");
        }
        assert!(DomainPattern::parse("*").is_err());
        assert!(DomainPattern::parse("a.*.com").is_err());
    }
}

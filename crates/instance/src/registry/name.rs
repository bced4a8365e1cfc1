//! Names of images: `NAME:TAG` as the OCI distribution specification allows them.

use std::fmt;
use std::str::FromStr;

/// Host part of references to this registry in job files; may be written in front of a name.
pub const HOST: &str = "executors.internal";

/// `NAME:TAG` of an image in this registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// For example `base` or `tools/helper`.
    pub name: String,
    /// For example `1`; `latest` when left out.
    pub tag: String,
}

/// Why a text is not the name of an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The part before the colon.
    #[error(
        "image name {0:?} must be lower-case letters and digits, separated by one of . _ - or /"
    )]
    Name(String),
    /// The part after the colon.
    #[error("image tag {0:?} must be letters, digits, and . _ - (not first), at most 128")]
    Tag(String),
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.strip_prefix(HOST).and_then(|t| t.strip_prefix('/')).unwrap_or(text);
        let (name, tag) = text.rsplit_once(':').unwrap_or((text, "latest"));
        if !is_name(name) {
            return Err(NameError::Name(name.to_owned()));
        }
        if !is_tag(tag) {
            return Err(NameError::Tag(tag.to_owned()));
        }
        Ok(Self { name: name.to_owned(), tag: tag.to_owned() })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/…)*` of the distribution specification.
pub(crate) fn is_name(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let component = |part: &str| {
        let ends = part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().last().is_some_and(alphanumeric);
        ends && part
            .split(|c: char| c.is_ascii() && alphanumeric(c as u8))
            .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
    };
    name.len() <= 255 && name.split('/').all(component)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(crate) fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The hexadecimal part of `sha256:<64 hex>`.
pub(crate) fn sha256_of(digest: &str) -> Option<[u8; 32]> {
    let hex = digest.strip_prefix("sha256:")?;
    if hex.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(hex).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_specification_pass_and_others_do_not() {
        for good in ["base", "a/b/c", "a.b_c__d---e", "0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "/a", "a/", "A", "a..b", "a_", "-a", "a b", "a/../b", "a___b", "é"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_tag("1") && is_tag("_x.y-z") && !is_tag("") && !is_tag(".1") && !is_tag("a/b"));
    }

    #[test]
    fn a_reference_is_read_with_and_without_host_and_tag() {
        let name = |n: &str, t: &str| Ok(ImageName { name: n.into(), tag: t.into() });
        assert_eq!("base".parse(), name("base", "latest"));
        assert_eq!("executors.internal/x/base:1".parse(), name("x/base", "1"));
        assert_eq!("base:".parse::<ImageName>(), Err(NameError::Tag(String::new())));
        assert!("docker.io:80/x".parse::<ImageName>().is_err());
    }

    #[test]
    fn a_digest_is_exactly_lower_case_sha256() {
        let hex = "a".repeat(64);
        assert!(sha256_of(&format!("sha256:{hex}")).is_some());
        assert!(sha256_of(&format!("sha256:{}", hex.to_uppercase())).is_none());
        assert!(sha256_of(&format!("sha512:{hex}")).is_none());
        assert!(sha256_of("sha256:aa").is_none());
    }
}

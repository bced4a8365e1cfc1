//! Syntax of image references: `[registry[:port]/]path[:tag][@digest]`.
//!
//! The grammar is that of the distribution project (`reference/reference.go`), which every registry
//! and container tool follows.

use crate::registry::{is_name, is_tag};

/// Why a reference is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// `oci:DIR` names a folder of the executor's own machine.
    #[error(
        "oci: references are read from the executor's own disk and cannot be submitted; import the \
         image with `instance image import` and use executors.internal/NAME:TAG"
    )]
    Local,
    /// Empty or longer than 512 characters.
    #[error("must have 1 to 512 characters")]
    Length,
    /// The registry part.
    #[error("the part before the first \"/\" is not a host name with an optional port")]
    Registry,
    /// The path part.
    #[error(
        "the name must be lower-case letters, digits and single separators \".\", \"_\", \"-\" \
         between slashes"
    )]
    Name,
    /// The tag.
    #[error("the tag must be letters, digits, \"_\", \".\" and \"-\", at most 128 characters")]
    Tag,
    /// The digest.
    #[error("the digest must be sha256: and 64 hexadecimal digits")]
    Digest,
}

/// Checks a reference.
///
/// # Errors
/// See [`ReferenceError`].
pub fn check(reference: &str) -> Result<(), ReferenceError> {
    if reference.starts_with("oci:") {
        return Err(ReferenceError::Local);
    }
    if reference.is_empty() || reference.len() > 512 {
        return Err(ReferenceError::Length);
    }
    let name = match reference.split_once('@') {
        Some((name, digest)) => {
            let hex = digest.strip_prefix("sha256:").ok_or(ReferenceError::Digest)?;
            let good = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if hex.len() != 64 || !hex.bytes().all(good) {
                return Err(ReferenceError::Digest);
            }
            name
        }
        None => reference,
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Some(first), rest),
        _ => (None, name),
    };
    if registry.is_some_and(|host| !is_host_and_port(host)) {
        return Err(ReferenceError::Registry);
    }
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(ReferenceError::Tag);
    }
    if is_name(path) { Ok(()) } else { Err(ReferenceError::Name) }
}

/// The first part is a registry when it could not be a name: it has a dot, a port or is `localhost`.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "80"));
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && !port.is_empty() && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_that_are_right() {
        let digest = format!("a/b@sha256:{}", "0a".repeat(32));
        for good in [
            "alpine",
            "alpine:3.20",
            "library/alpine",
            "executors.internal/base:1",
            "ghcr.io/x/y__z-q.r:V1.0_x",
            "localhost:5000/a",
            "10.0.0.1:5000/a/b",
            &digest,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn references_that_are_wrong() {
        use ReferenceError::{Digest, Length, Local, Name, Registry, Tag};
        for (bad, error) in [
            ("", Length),
            ("oci:/srv/image", Local),
            ("Alpine", Name),
            ("a//b", Name),
            ("a/../b", Name),
            ("-x", Name),
            ("a b", Name),
            ("a$(id)", Name),
            ("a:", Tag),
            ("a:b/c", Registry),
            ("a:-x", Tag),
            ("a@sha256:00", Digest),
            ("a@md5:00", Digest),
            ("h:p/x", Registry),
            ("../x", Registry),
            ("x_y.com/z", Registry),
            ("x.io:99999/z", Registry),
        ] {
            assert_eq!(check(bad), Err(error), "{bad}");
        }
    }
}

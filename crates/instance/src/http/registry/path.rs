//! Paths of the registry. A name may hold slashes, so the end decides.

use super::error::{Code, Error};
use crate::registry::{is_name, is_tag, sha256_of};

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    Manifest { name: &'a str, reference: Reference<'a> },
    Blob { name: &'a str, digest: &'a str },
    Tags { name: &'a str },
}

/// How a manifest is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    Tag(&'a str),
    Digest(&'a str),
}

/// Reads what comes after `/v2/`.
pub(super) fn parse(path: &str) -> Result<Wanted<'_>, Error> {
    let unknown = || Error::not_found(Code::NameUnknown, "no such page");
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Ok(Wanted::Tags { name: checked(name)? });
    }
    let (rest, last) = path.rsplit_once('/').ok_or_else(unknown)?;
    if let Some(name) = rest.strip_suffix("/manifests") {
        let name = checked(name)?;
        let reference = if last.contains(':') {
            Reference::Digest(digest(last)?)
        } else if is_tag(last) {
            Reference::Tag(last)
        } else {
            return Err(Error::not_found(Code::ManifestUnknown, "no such tag"));
        };
        return Ok(Wanted::Manifest { name, reference });
    }
    if let Some(name) = rest.strip_suffix("/blobs") {
        return Ok(Wanted::Blob { name: checked(name)?, digest: digest(last)? });
    }
    Err(unknown())
}

fn checked(name: &str) -> Result<&str, Error> {
    let status = axum::http::StatusCode::BAD_REQUEST;
    if is_name(name) {
        Ok(name)
    } else {
        Err(Error::new(status, Code::NameInvalid, "invalid image name"))
    }
}

fn digest(text: &str) -> Result<&str, Error> {
    let status = axum::http::StatusCode::BAD_REQUEST;
    let message = "digest must be sha256: and 64 hexadecimal digits";
    match sha256_of(text) {
        Some(_) => Ok(text),
        None => Err(Error::new(status, Code::DigestInvalid, message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_decides() {
        let wanted = parse("a/b/manifests/1").unwrap();
        assert_eq!(wanted, Wanted::Manifest { name: "a/b", reference: Reference::Tag("1") });
        assert_eq!(parse("manifests/tags/list").unwrap(), Wanted::Tags { name: "manifests" });
        let digest = format!("sha256:{}", "0".repeat(64));
        let path = format!("a/blobs/{digest}");
        assert_eq!(parse(&path).unwrap(), Wanted::Blob { name: "a", digest: &digest });
        for bad in ["", "a", "a/blobs/sha256:zz", "A/manifests/1", "../manifests/1", "a/x/1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

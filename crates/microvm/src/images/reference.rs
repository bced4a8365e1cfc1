//! Image references: a strict parser of the grammar that docker users know.
//!
//! Source: <https://github.com/distribution/reference/blob/main/reference.go> (grammar) and
//! `normalize.go` (short names mean `docker.io/library/…`).

use std::fmt;
use std::path::PathBuf;

/// The registry name of the instance's own registry; never resolved by DNS.
pub const INSTANCE_HOST: &str = "executors.internal";

const DOCKER_HUB: &str = "docker.io";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A `sha256:` digest. Other algorithms are refused when parsed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:<64 lower-case hex digits>`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(format!("digest `{text}` has no algorithm; write sha256:<64 hex digits>"));
        };
        if algorithm != "sha256" {
            return Err(format!("digest algorithm `{algorithm}` is not supported; use sha256"));
        }
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != 64 || !hex.bytes().all(lower_hex) {
            return Err(format!(
                "digest `{text}` must have 64 lower-case hex digits after sha256:"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The digest of a finished SHA-256.
    pub fn from_sha256(hash: impl AsRef<[u8]>) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)))
    }

    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_sha256(sha2::Sha256::digest(bytes))
    }

    /// The hex digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A parsed reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// In a registry.
    Registry(RegistryReference),
    /// `oci:DIR[:tag]`: an OCI image layout on this machine.
    Layout {
        /// The directory, as given.
        dir: PathBuf,
        /// Which manifest of its index; `None` = the only one.
        tag: Option<String>,
    },
}

/// A reference into a registry; at least one of tag and digest decides what is meant, a digest wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryReference {
    /// Host with optional port, lower-case; `docker.io` for short names.
    pub host: String,
    /// Repository path, `library/alpine` for `alpine`.
    pub repository: String,
    /// `latest` when neither tag nor digest is given.
    pub tag: Option<String>,
    /// Pins the content.
    pub digest: Option<Digest>,
}

impl RegistryReference {
    /// What goes after `/manifests/`.
    pub fn selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    /// Whether it goes to the instance's own registry.
    pub fn is_instance(&self) -> bool {
        self.host == INSTANCE_HOST
    }

    /// Whether mirrors of docker.io apply.
    pub fn is_docker_hub(&self) -> bool {
        self.host == DOCKER_HUB
    }
}

impl fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout { dir, tag: None } => write!(f, "oci:{}", dir.display()),
            Self::Layout { dir, tag: Some(tag) } => write!(f, "oci:{}:{tag}", dir.display()),
        }
    }
}

impl Reference {
    /// Reads a reference. The error names the part that is wrong and the fix.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; name an image such as alpine:3.20".to_owned());
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() && !text.starts_with("oci:"))
        {
            return Err(format!(
                "contains {bad:?}; only printable ASCII without spaces is allowed"
            ));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            return parse_layout(rest);
        }
        if text.contains("://") {
            return Err("starts with a URL scheme; write it without, as host/name:tag".to_owned());
        }
        parse_registry(text).map(Self::Registry)
    }
}

fn parse_layout(rest: &str) -> Result<Reference, String> {
    if rest.chars().any(char::is_control) {
        return Err("the directory contains a control character".to_owned());
    }
    let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (dir, tag) = match rest[name_start..].rfind(':') {
        Some(colon) => {
            let (dir, tag) = rest.split_at(name_start + colon);
            (dir, Some(check_tag(&tag[1..])?.to_owned()))
        }
        None => (rest, None),
    };
    if dir.is_empty() {
        return Err("names no directory; write oci:DIR or oci:DIR:tag".to_owned());
    }
    Ok(Reference::Layout { dir: dir.into(), tag })
}

fn parse_registry(text: &str) -> Result<RegistryReference, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
        None => (text, None),
    };
    // The tag's colon comes after the last slash; one before it belongs to a port.
    let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[name_start..].find(':') {
        Some(colon) => {
            let (name, tag) = rest.split_at(name_start + colon);
            (name, Some(check_tag(&tag[1..])?.to_owned()))
        }
        None => (rest, None),
    };
    let (host, repository) = split_host(name)?;
    check_repository(&repository, host.len())?;
    let tag = match (&tag, &digest) {
        (None, None) => Some("latest".to_owned()),
        _ => tag,
    };
    Ok(RegistryReference { host, repository, tag, digest })
}

fn split_host(name: &str) -> Result<(String, String), String> {
    let first_is_host = |first: &str| first.contains(['.', ':', '[']) || first == "localhost";
    let (host, repository) = match name.split_once('/') {
        Some((first, rest)) if first_is_host(first) => (check_host(first)?, rest.to_owned()),
        _ => (DOCKER_HUB.to_owned(), name.to_owned()),
    };
    let host = if host == "index.docker.io" { DOCKER_HUB.to_owned() } else { host };
    if host == DOCKER_HUB && !repository.contains('/') {
        return Ok((host, format!("library/{repository}")));
    }
    Ok((host, repository))
}

fn check_host(host: &str) -> Result<String, String> {
    let bad = |why: &str| Err(format!("registry host `{host}` {why}"));
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return bad("has an opening [ without ]");
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return bad("has no IPv6 address between [ and ]");
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return bad("has something other than a :port after ]"),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    if let Some(port) = port {
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if !digits || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return bad("has a bad port; use 1 to 65535");
        }
    }
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.is_some_and(|name| name.len() > 253 || !name.split('.').all(label_ok)) {
        return bad("is not a host name; use letters, digits, dots and inner hyphens");
    }
    Ok(host.to_ascii_lowercase())
}

fn check_repository(repository: &str, host_length: usize) -> Result<(), String> {
    if host_length + 1 + repository.len() > MAX_NAME {
        return Err(format!("the name is longer than {MAX_NAME} characters"));
    }
    for component in repository.split('/') {
        if component.is_empty() {
            return Err("the name has an empty part; remove the extra /".to_owned());
        }
        if component.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!(
                "the name part `{component}` has upper-case letters; use lower case"
            ));
        }
        if !component_ok(component.as_bytes()) {
            return Err(format!(
                "the name part `{component}` must be lower-case letters and digits, separated by one \
                 dot, one or two underscores or hyphens"
            ));
        }
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn component_ok(component: &[u8]) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = component;
    loop {
        let word = rest.iter().take_while(|b| alphanumeric(b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|b| !alphanumeric(b)).count();
        let ok = match &rest[..separator] {
            b"." | b"_" | b"__" => true,
            hyphens => hyphens.iter().all(|b| *b == b'-'),
        };
        if !ok {
            return false;
        }
        rest = &rest[separator..];
    }
}

/// `[\w][\w.-]{0,127}`
fn check_tag(tag: &str) -> Result<&str, String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if ok {
        return Ok(tag);
    }
    Err(format!(
        "the tag `{tag}` must be 1 to {MAX_TAG} letters, digits, `_`, `.` or `-`, not starting with `.` or `-`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn registry(text: &str) -> RegistryReference {
        match Reference::parse(text).unwrap() {
            Reference::Registry(reference) => reference,
            Reference::Layout { .. } => panic!("{text} is a layout"),
        }
    }

    #[test]
    fn short_names_are_completed() {
        assert_eq!(registry("alpine").to_string(), "docker.io/library/alpine:latest");
        assert_eq!(registry("alpine:3.20").to_string(), "docker.io/library/alpine:3.20");
        assert_eq!(registry("me/tool").to_string(), "docker.io/me/tool:latest");
        assert_eq!(
            registry("index.docker.io/alpine").to_string(),
            "docker.io/library/alpine:latest"
        );
        assert_eq!(registry("localhost/x").host, "localhost");
        assert_eq!(registry("Registry.example/x").host, "registry.example");
    }

    #[test]
    fn ports_tags_and_digests_are_told_apart() {
        let r = registry("host:5000/x:tag");
        assert_eq!(
            (r.host.as_str(), r.repository.as_str(), r.selector()),
            ("host:5000", "x", "tag")
        );
        let r = registry("host:5000/x");
        assert_eq!((r.host.as_str(), r.selector()), ("host:5000", "latest"));
        let r = registry(&format!("ghcr.io/x/y@sha256:{HEX}"));
        assert_eq!((r.tag.as_deref(), r.selector()), (None, format!("sha256:{HEX}").as_str()));
        let r = registry(&format!("ghcr.io/x/y:1@sha256:{HEX}"));
        assert_eq!(r.selector(), format!("sha256:{HEX}"));
        assert_eq!(registry("[::1]:5000/x").host, "[::1]:5000");
        assert!(registry("executors.internal/base:1").is_instance());
    }

    #[test]
    fn layouts_keep_their_directory() {
        let parse = |text: &str| Reference::parse(text).unwrap();
        let layout = |dir: &str, tag: Option<&str>| Reference::Layout {
            dir: dir.into(),
            tag: tag.map(Into::into),
        };
        assert_eq!(parse("oci:/a b/c"), layout("/a b/c", None));
        assert_eq!(parse("oci:/a/c:1.0"), layout("/a/c", Some("1.0")));
        assert_eq!(parse("oci:/a:b/c"), layout("/a:b/c", None));
    }

    #[test]
    fn errors_name_the_part_and_the_fix() {
        let problem = |text: &str| Reference::parse(text).unwrap_err();
        for (text, part) in [
            ("", "empty"),
            ("https://x.example/y", "scheme"),
            ("Alpine", "upper-case"),
            ("x/Y", "upper-case"),
            // Lower-cased it would name another image.
            ("Host/x", "upper-case"),
            ("a//b", "empty part"),
            ("a/", "empty part"),
            ("/a", "empty part"),
            ("alpine:", "tag"),
            ("alpine:-x", "tag"),
            ("alpine:a:b", "tag"),
            ("a.b:99999/x", "port"),
            ("a.b:/x", "port"),
            ("-a.b/x", "host"),
            ("a..b/x", "host"),
            ("[zz]/x", "IPv6"),
            ("a___b", "name part"),
            ("a/../b", "name part"),
            ("x@sha256:12", "64"),
            ("x@sha512:12", "sha512"),
            ("x@@", "algorithm"),
            ("a b", "' '"),
            ("a\nb", "'\\n'"),
            ("oci:", "directory"),
            ("oci:/x:", "tag"),
        ] {
            let message = problem(text);
            assert!(message.contains(part), "{text:?}: {message}");
        }
        assert!(problem(&"a".repeat(300)).contains("255"));
    }

    proptest! {
        #[test]
        fn never_panics_and_what_is_printed_means_the_same(text in "\\PC{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
            }
        }

        #[test]
        fn well_formed_references_survive(
            host in "([a-z][a-z0-9]{0,8}\\.[a-z]{2,5}|localhost)(:[1-9][0-9]{0,3})?",
            path in "[a-z0-9]{1,9}([._-][a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,9}){0,2}",
            tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
        ) {
            let r = registry(&format!("{host}/{path}:{tag}"));
            prop_assert_eq!(r.host, host);
            prop_assert_eq!(r.repository, path);
            prop_assert_eq!(r.tag.unwrap(), tag);
        }
    }
}

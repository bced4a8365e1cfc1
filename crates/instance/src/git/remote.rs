//! Where a repository comes from.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use url::Url;

/// A place git may fetch from, with its credentials set apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    /// What git is given: without credentials.
    location: String,
    protocols: &'static str,
    /// `user:password` of an http(s) URL.
    credentials: Option<String>,
}

/// Why a text is not a place to fetch from.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RemoteError {
    /// Neither a URL nor a path.
    #[error(
        "repository url must be https://…, http://…, ssh://…, user@host:path or an absolute path"
    )]
    Unsupported,
    /// A relative path depends on where the server was started.
    #[error("repository path must be absolute")]
    RelativePath,
    /// There is no such folder.
    #[error("repository path {path} is not a folder")]
    NoSuchPath {
        /// The path.
        path: String,
    },
    /// Control characters, or a leading dash that git could take for an option.
    #[error("repository url has a character that is not allowed")]
    BadCharacter,
}

impl Remote {
    /// Reads what a site admin typed or what was stored. Local paths are only ever registered by
    /// site admins, who own the machine; no other caller must come here.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RemoteError::Unsupported);
        }
        if text.starts_with('-') || text.chars().any(char::is_control) {
            return Err(RemoteError::BadCharacter);
        }
        if text.starts_with('/') {
            return Self::local(text);
        }
        if let Ok(url) = Url::parse(text) {
            return match url.scheme() {
                "https" | "http" if url.host_str().is_some() => Ok(Self::http(url)),
                "ssh" if url.host_str().is_some() => Ok(Self::ssh(text)),
                "file" => {
                    let path = url.to_file_path().map_err(|()| RemoteError::Unsupported)?;
                    Self::local(path.to_str().ok_or(RemoteError::BadCharacter)?)
                }
                _ => Err(RemoteError::Unsupported),
            };
        }
        if is_scp_like(text) { Ok(Self::ssh(text)) } else { Err(RemoteError::RelativePath) }
    }

    /// The location without credentials: for pages and logs.
    pub fn display(&self) -> &str {
        &self.location
    }

    pub(super) fn location(&self) -> &str {
        &self.location
    }

    pub(super) fn protocols(&self) -> &'static str {
        self.protocols
    }

    /// Settings handed to git through the environment, because arguments are seen by every user of
    /// the machine. The header is bound to the remote's host, and redirects are off while it is sent.
    pub(super) fn secret_settings(&self) -> Vec<(String, String)> {
        let Some(credentials) = &self.credentials else { return Vec::new() };
        let host = Url::parse(&self.location).map(|u| u.origin().ascii_serialization());
        let host = host.unwrap_or_default();
        let header = format!("Authorization: Basic {}", BASE64.encode(credentials));
        vec![
            (format!("http.{host}/.extraHeader"), header),
            ("http.followRedirects".to_owned(), "false".to_owned()),
        ]
    }

    fn http(mut url: Url) -> Self {
        let decode = |s: &str| percent_decode(s);
        let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| {
            format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or_default()))
        });
        // Both fail only for URLs without a host, which were refused above.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Self { location: url.into(), protocols: "https:http", credentials }
    }

    fn ssh(text: &str) -> Self {
        Self { location: text.to_owned(), protocols: "ssh", credentials: None }
    }

    fn local(path: &str) -> Result<Self, RemoteError> {
        if !PathBuf::from(path).is_dir() {
            return Err(RemoteError::NoSuchPath { path: path.to_owned() });
        }
        Ok(Self { location: path.to_owned(), protocols: "file", credentials: None })
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({})", self.location)
    }
}

/// `user@host:path`, as ssh users write it.
fn is_scp_like(text: &str) -> bool {
    let Some((host, path)) = text.split_once(':') else { return false };
    let name = host.rsplit('@').next().unwrap_or(host);
    !path.is_empty()
        && !name.is_empty()
        && !name.starts_with('-')
        && !host.contains('/')
        && host.contains('@')
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped =
            (*first == b'%').then(|| tail.get(..2).and_then(|h| hex::decode(h).ok())).flatten();
        if let Some(decoded) = escaped {
            bytes.extend(decoded);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let remote = Remote::parse("https://bob:p%40ss@git.example/a/b.git").unwrap();
        assert_eq!(remote.display(), "https://git.example/a/b.git");
        assert!(!format!("{remote:?}").contains("ss@"));
        let settings = remote.secret_settings();
        assert_eq!(settings[0].0, "http.https://git.example/.extraHeader");
        let expected = format!("Authorization: Basic {}", BASE64.encode("bob:p@ss"));
        assert_eq!(settings[0].1, expected);
    }

    #[test]
    fn what_git_could_take_for_a_program_is_refused() {
        for bad in [
            "ext::sh -c id",
            "--upload-pack=id",
            "file::/x",
            "fd::3",
            "git://host/x",
            "relative/path",
            "-oProxyCommand=id@host:x",
            "https://host/\nx",
            "",
        ] {
            assert!(Remote::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_supported_form_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(Remote::parse(path).unwrap().protocols(), "file");
        assert_eq!(Remote::parse(&format!("file://{path}")).unwrap().location(), path);
        assert_eq!(Remote::parse("git@github.com:a/b.git").unwrap().protocols(), "ssh");
        assert_eq!(Remote::parse("ssh://git@host:22/a").unwrap().protocols(), "ssh");
        assert_eq!(Remote::parse("http://host/a").unwrap().protocols(), "https:http");
        let missing = Remote::parse("/no/such/folder");
        assert_eq!(missing, Err(RemoteError::NoSuchPath { path: "/no/such/folder".into() }));
    }
}

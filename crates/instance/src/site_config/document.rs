//! The file as a person views and edits it: secrets shown as `REDACTED`, kept when saved back so.

use super::file::{self, ReplaceError};
use super::parse::parse;
use super::{SiteConfigHandle, redact};
use crate::problems::Problems;

/// The file's text for viewing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// With secrets redacted.
    pub text: String,
    /// Names the stored text; to be given back when saving.
    pub etag: String,
    /// What is wrong with the file on disk; `None` when it is the one in use.
    pub problems: Option<Problems>,
}

/// Why a text was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The text has mistakes; nothing was written.
    #[error("the site configuration has mistakes:\n{0}")]
    Invalid(#[from] Problems),
    /// It was changed meanwhile, or could not be written.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
}

impl SiteConfigHandle {
    /// The file as it is on disk now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn document(&self) -> std::io::Result<Document> {
        let text = file::read_or_create(self.data_dir())?;
        let problems = parse(&text).err();
        Ok(Document { text: redact::redact(&text), etag: file::etag(&text), problems })
    }

    /// Checks and stores an edited text and publishes it at once; returns the new etag. Values that
    /// still say `REDACTED` keep what is stored.
    ///
    /// Blocks on the file system for a moment. The caller writes the audit entry.
    ///
    /// # Errors
    /// See [`SaveError`]; nothing is changed then.
    pub fn save(&self, edited: &str, expected_etag: &str) -> Result<String, SaveError> {
        let stored = file::read_or_create(self.data_dir()).map_err(ReplaceError::Io)?;
        let text = redact::restore(edited, &stored);
        parse(&text)?;
        file::replace(self.data_dir(), &text, expected_etag)?;
        self.reload();
        Ok(file::etag(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saving_keeps_secrets_and_comments_and_is_published_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let handle = SiteConfigHandle::open(dir.path()).unwrap();
        let first = handle.document().unwrap();
        let text = "{ // mine\n \"executors.accessToken\": \"abcdefghijklmnopqrstuvwxyz\" }";
        handle.save(text, &first.etag).unwrap();
        assert!(handle.current().executors_configured());

        let shown = handle.document().unwrap();
        assert!(shown.text.contains("REDACTED") && !shown.text.contains("abcdef"));
        let edited = shown.text.replace("// mine", "// ours\n \"jobs.retentionDays\": 3,");
        handle.save(&edited, &shown.etag).unwrap();
        assert_eq!(handle.current().jobs_retention_days, 3);
        assert_eq!(handle.current().access_token.expose(), "abcdefghijklmnopqrstuvwxyz");
        assert!(handle.document().unwrap().text.contains("// ours"));
    }

    #[test]
    fn mistakes_and_lost_races_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let handle = SiteConfigHandle::open(dir.path()).unwrap();
        let seen = handle.document().unwrap();
        let bad =
            handle.save("{ \"executors.accessToken\": \"REDACTED\" }", &seen.etag).unwrap_err();
        assert!(bad.to_string().contains("line 1, column 28"), "{bad}");
        handle.save("{}", &seen.etag).unwrap();
        let late = handle.save("{ \"jobs.retentionDays\": 1 }", &seen.etag).unwrap_err();
        assert!(matches!(late, SaveError::Replace(ReplaceError::Changed)));
        assert_eq!(handle.current().jobs_retention_days, 30);
    }
}

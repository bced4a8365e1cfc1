//! What can go wrong in the store. Variants that a caller answers differently carry their facts.

use crate::queue::JobState;
use crate::transitions::Change;

/// Result of every method of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that was named does not exist.
    #[error("{what} {id} does not exist")]
    NotFound {
        /// Kind of thing, for example `job`.
        what: &'static str,
        /// The name or id that was asked for.
        id: String,
    },
    /// A unique name is taken.
    #[error("{what} {id} exists already: choose another name")]
    Exists {
        /// Kind of thing.
        what: &'static str,
        /// The name that is taken.
        id: String,
    },
    /// The job is not this executor's, not in this queue, or not processing.
    /// The wire answers are 500 `unknown job` on logs and 404 on mark*.
    #[error("unknown job")]
    UnknownJob,
    /// The state machine does not allow the change.
    #[error("job {job} is {from}: {change} is not possible")]
    Transition {
        /// The job.
        job: i64,
        /// The state it is in.
        from: JobState,
        /// The change that was asked for.
        change: Change,
    },
    /// Output was appended past the end of what is stored; continue from `stored`.
    #[error("offset is past the end of the stored output: continue from {stored}")]
    Gap {
        /// Bytes stored.
        stored: u64,
    },
    /// A log entry was added out of order or with another key than before.
    #[error("entryId {expected} does not follow the {stored} entries of this attempt")]
    EntryOrder {
        /// The entry id that the caller expected to get.
        expected: i64,
        /// Entries stored.
        stored: i64,
    },
    /// A value breaks a rule of the store.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong and how to fix it.
        problem: String,
    },
    /// The database was written by a newer program.
    #[error(
        "database has schema version {database}, this program knows up to {program}: \
         start the newer program, or restore a backup of before the upgrade"
    )]
    NewerDatabase {
        /// Version found in the database.
        database: i64,
        /// Newest version this program knows.
        program: i64,
    },
    /// The URL names no database that we speak.
    #[error("database url: {problem}: expected sqlite:PATH or postgres://USER@HOST/NAME")]
    Url {
        /// What is wrong; never the URL itself, which may hold a password.
        problem: String,
    },
    /// A stored value cannot be read back: the row was written by something else.
    #[error("database row of {what} holds an unreadable value: {value:?}")]
    Corrupt {
        /// Table or column.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The database failed.
    #[error("database: {0}")]
    Database(sqlx::Error),
}

/// PostgreSQL's code for a character that no text can hold: NUL.
const NO_SUCH_CHARACTER: &str = "22021";

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|db| db.code());
        if code.is_some_and(|code| code == NO_SUCH_CHARACTER) {
            let problem = "holds a NUL character: leave it out".to_owned();
            return Self::Invalid { field: "text", problem };
        }
        Self::Database(error)
    }
}

impl Error {
    /// [`Error::NotFound`] for anything printable.
    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// Turns a broken unique constraint into [`Error::Exists`], and leaves the rest as it is.
    pub(crate) fn or_exists(error: sqlx::Error, what: &'static str, id: &str) -> Self {
        match error.as_database_error() {
            Some(db) if db.is_unique_violation() => Self::Exists { what, id: id.to_owned() },
            _ => Self::from(error),
        }
    }
}

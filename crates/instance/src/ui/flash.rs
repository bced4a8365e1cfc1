//! The one-line message that a page shows after a form was handled. The cookie carries only its name,
//! so nobody can put words into it.

use http::HeaderMap;

use super::cookie;

/// Name of the cookie.
pub const COOKIE: &str = "flash";

/// What just happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flash {
    /// The configuration was saved.
    ConfigurationSaved,
    /// An executor was told to drain.
    Draining,
    /// An executor may take jobs again.
    Undrained,
    /// A job was cancelled, or will be as soon as its executor stops it.
    Canceled,
    /// It had ended already.
    TooLateToCancel,
    /// A job was queued again.
    Retried,
    /// It cannot be retried.
    NotRetried,
    /// The job's machine will be kept if it fails.
    HoldWished,
    /// It will not.
    HoldTakenBack,
    /// The job had ended already.
    TooLateToHold,
    /// A kept machine goes.
    Released,
    /// It had gone already.
    NotHeld,
    /// A terminal was closed.
    TerminalClosed,
    /// A job was submitted.
    Submitted,
    /// A repository was registered.
    RepositoryAdded,
    /// A repository will be fetched.
    SyncRequested,
    /// A repository was removed.
    RepositoryRemoved,
    /// A user was created.
    UserAdded,
    /// A role changed.
    RoleChanged,
    /// The last site admin cannot go.
    LastSiteAdmin,
    /// A user was removed.
    UserRemoved,
    /// An access token was revoked.
    TokenRevoked,
    /// The password changed.
    PasswordChanged,
    /// The session ended.
    LoggedOut,
}

const ALL: [(Flash, &str, &str); 24] = [
    (Flash::ConfigurationSaved, "configuration-saved", "Saved. The new configuration is in use."),
    (Flash::Draining, "draining", "Drain requested. Running jobs end; no new ones start there."),
    (Flash::Undrained, "undrained", "The executor may take jobs again."),
    (Flash::Canceled, "canceled", "The job is being canceled."),
    (Flash::TooLateToCancel, "too-late", "The job had ended already."),
    (Flash::Retried, "retried", "The job is queued again."),
    (Flash::NotRetried, "not-retried", "Only a job that has ended can be retried."),
    (Flash::HoldWished, "hold-wished", "If the job fails, its machine is kept."),
    (Flash::HoldTakenBack, "hold-taken-back", "The job's machine is not kept."),
    (Flash::TooLateToHold, "too-late-to-hold", "The job had ended already."),
    (Flash::Released, "released", "The machine goes within a few seconds."),
    (Flash::NotHeld, "not-held", "The machine had gone already."),
    (Flash::TerminalClosed, "terminal-closed", "Terminal closed. Its recording stays."),
    (Flash::Submitted, "submitted", "Job submitted."),
    (Flash::RepositoryAdded, "repository-added", "Repository added. Its first clone has begun."),
    (Flash::SyncRequested, "sync-requested", "The repository is being fetched."),
    (Flash::RepositoryRemoved, "repository-removed", "Repository removed."),
    (Flash::UserAdded, "user-added", "User added."),
    (Flash::RoleChanged, "role-changed", "Role changed."),
    (Flash::LastSiteAdmin, "last-site-admin", "The instance needs at least one site admin."),
    (Flash::UserRemoved, "user-removed", "User removed."),
    (
        Flash::TokenRevoked,
        "token-revoked",
        "Token revoked. Programs that use it are refused from now on.",
    ),
    (
        Flash::PasswordChanged,
        "password-changed",
        "Password changed. Your other sessions have ended.",
    ),
    (Flash::LoggedOut, "logged-out", "You are logged out."),
];

impl Flash {
    /// The message waiting for this reader.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let name = cookie::get(headers, COOKIE)?;
        ALL.iter().find(|(_, known, _)| *known == name).map(|(flash, _, _)| *flash)
    }

    fn row(self) -> (&'static str, &'static str) {
        let row = ALL.iter().find(|(flash, _, _)| *flash == self);
        row.map(|(_, name, text)| (*name, *text)).expect("every message is in the table")
    }

    /// The cookie's value.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// For people.
    pub fn text(self) -> &'static str {
        self.row().1
    }

    /// CSS class.
    pub fn kind(self) -> &'static str {
        match self {
            Self::TooLateToCancel
            | Self::NotRetried
            | Self::TooLateToHold
            | Self::NotHeld
            | Self::LastSiteAdmin => "warn",
            _ => "ok",
        }
    }

    /// Icon.
    pub fn icon(self) -> &'static str {
        if self.kind() == "ok" { "check" } else { "alert" }
    }
}

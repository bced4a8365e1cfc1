//! Users: log-in, set-up of the first one, passwords, roles and access tokens.
//!
//! The pages, the API and the command line call these functions, so that each rule is in one place.
//! Every change leaves a line in the audit log; none of them contains a secret.

pub mod log_in;
pub mod password;
mod set_up;
mod tokens;
mod users;

pub use log_in::{log_in, log_out};
pub use set_up::set_up;
pub use tokens::{create_token, present, revoke_token, token_value};
pub use users::{change_password, create_user, remove_user, set_role};

use store::AuditRecord;

use crate::App;
use crate::http::error::Error;

/// Longest user name.
pub const MAX_NAME: usize = 64;

/// Checks a new user name.
///
/// # Errors
/// What is wrong, for the field `name`.
pub fn check_name(name: &str) -> Result<(), Error> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= MAX_NAME && name.bytes().all(good) {
        return Ok(());
    }
    let rule = format!(
        "must be 1 to {MAX_NAME} letters, digits, \".\", \"_\" and \"-\", first a letter or digit"
    );
    Err(Error::invalid("name", rule))
}

/// Writes a line of the audit log.
///
/// # Errors
/// Of the database.
pub async fn audit(
    app: &App,
    actor: &str,
    action: &str,
    target: &str,
    detail: &str,
) -> Result<(), Error> {
    let record = AuditRecord { actor, action, target, detail };
    Ok(app.store.audit(&record, app.clock.now_ms()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["ada", "Ada.Lovelace-1", "0_o"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".ada", "a b", "a/b", "ä", "-x", "<b>", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}

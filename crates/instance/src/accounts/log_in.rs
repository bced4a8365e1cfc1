//! Log-in and log-out.

use std::net::IpAddr;

use store::NewSession;

use super::password;
use crate::App;
use crate::http::auth::origin;
use crate::http::error::Error;

/// Tries are counted in windows of this length.
const WINDOW_MS: i64 = 15 * 60 * 1000;
/// Failures from one network for one name.
const PER_NAME_AND_NETWORK: i64 = 10;
/// Failures from one network.
const PER_NETWORK: i64 = 50;
/// Failures for one name from everywhere. Above what one network can reach, so that nobody locks
/// somebody else out from a single place.
const PER_NAME: i64 = 200;

/// Checks name and password and begins a session. The answer does not tell whether the name exists,
/// neither by its text nor by the time it takes.
///
/// # Errors
/// [`Error::Unauthorized`]; [`Error::TooManyRequests`] after too many failures.
pub async fn log_in(
    app: &App,
    name: &str,
    password: &str,
    address: Option<IpAddr>,
) -> Result<NewSession, Error> {
    let now = app.clock.now_ms();
    let subjects = subjects(name, address);
    for (subject, limit) in &subjects {
        if app.store.throttle_hits(subject, WINDOW_MS, now).await? >= *limit {
            return Err(Error::TooManyRequests { retry_after_seconds: WINDOW_MS as u64 / 1000 });
        }
    }
    let refused = || Error::Unauthorized("wrong name or password".to_owned());
    // Counted before the check: parallel tries cannot slip through while the hashes are computed.
    for (subject, _) in &subjects {
        app.store.throttle_hit(subject, WINDOW_MS, now).await?;
    }
    if password.len() > password::MAX_LENGTH {
        return Err(refused());
    }
    let user = app.store.user_by_name(name).await?;
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let right = password::verify(password.to_owned(), stored).await;
    let Some(user) = user.filter(|_| right) else {
        tracing::info!(user = name, ?address, "log-in refused");
        return Err(refused());
    };
    // The counts of the network stay: somebody with an account may still guess those of others.
    app.store.throttle_clear(&subjects[0].0).await?;
    begin(app, user.id).await
}

/// Begins a session for a user whose identity is proven.
pub(super) async fn begin(app: &App, user_id: i64) -> Result<NewSession, Error> {
    let ttl_ms = session_ttl_ms(app);
    Ok(app.store.create_session(user_id, ttl_ms, app.clock.now_ms()).await?)
}

/// How long a session lasts without use.
pub(crate) fn session_ttl_ms(app: &App) -> i64 {
    i64::try_from(app.config.current().session_expiry.0).unwrap_or(i64::MAX / 2000) * 1000
}

/// Ends the session of a cookie.
///
/// # Errors
/// Of the database.
pub async fn log_out(app: &App, session_token: &str) -> Result<(), Error> {
    Ok(app.store.end_session(session_token).await?)
}

/// What failures are counted by, each with its limit. The first belongs to the person alone.
fn subjects(name: &str, address: Option<IpAddr>) -> [(String, i64); 3] {
    let network = address.map_or("unknown".to_owned(), origin::network);
    // Names are compared in any case; longer ones than allowed exist for nobody.
    let name: String = name.to_lowercase().chars().take(super::MAX_NAME).collect();
    [
        (format!("log-in:{name}@{network}"), PER_NAME_AND_NETWORK),
        (format!("log-in:@{network}"), PER_NETWORK),
        (format!("log-in:{name}"), PER_NAME),
    ]
}

//! What site admins do with the machines of failed jobs, from the pages and from the API. Each leaves a
//! line in the audit log.

use protocol::hold::MAX_TERMINALS;
use store::{Hold, NewTerminal, Opened, Release, Terminal, Wish};

use crate::App;
use crate::accounts::audit;
use crate::http::auth::SiteAdmin;
use crate::http::error::Error;

/// Size of a terminal until its page says how large it is there.
const FIRST_SIZE: (u16, u16) = (80, 24);

/// Says how many seconds a job's machine shall be kept if the job fails; 0 = not at all.
///
/// # Errors
/// [`Error::Invalid`] above the site's limit, [`Error::NotFound`], [`Error::Conflict`] when the job is over.
pub async fn wish(app: &App, admin: &SiteAdmin, job: i64, seconds: u64) -> Result<(), Error> {
    let max = app.config.current().max_hold;
    if seconds > max.0 {
        let problem = match max.0 {
            0 => "must be 0: executors.maximumHold forbids holds on this site".to_owned(),
            _ => format!("must be at most {} ({max}, executors.maximumHold)", max.0),
        };
        return Err(Error::invalid("seconds", problem));
    }
    match app.store.wish_hold(job, seconds, app.clock.now_ms()).await? {
        Wish::Noted => {
            let detail = format!("{seconds} s");
            audit(app, &admin.0.actor(), "job.hold", &format!("job:{job}"), &detail).await
        }
        Wish::AlreadyFinished(state) => {
            let text = format!("job {job} is {state} already; say so while it is queued or runs");
            Err(Error::Conflict(text))
        }
    }
}

/// Lets the machine of an attempt go, or of every attempt of the job. Returns how many are let go.
///
/// # Errors
/// Database errors.
pub async fn release(
    app: &App,
    admin: &SiteAdmin,
    job: i64,
    attempt: Option<i64>,
) -> Result<usize, Error> {
    let mut released = 0;
    let holds = app.store.holds(job).await?;
    let wanted = |hold: &&Hold| hold.is_open() && attempt.is_none_or(|n| n == hold.attempt);
    for hold in holds.iter().filter(wanted) {
        let name = &admin.0.account.name;
        if app.store.release_hold(job, hold.attempt, name).await? == Release::Asked {
            released += 1;
            let detail = format!("attempt {} on {}", hold.attempt, hold.executor);
            audit(app, &admin.0.actor(), "job.release", &format!("job:{job}"), &detail).await?;
        }
    }
    Ok(released)
}

/// Opens a terminal to the machine of an attempt.
///
/// # Errors
/// [`Error::Conflict`] when the machine is not kept, or too many are open.
pub async fn open(app: &App, admin: &SiteAdmin, job: i64, attempt: i64) -> Result<Terminal, Error> {
    let account = &admin.0.account;
    let (cols, rows) = FIRST_SIZE;
    let new = NewTerminal { user_id: account.id, user_name: &account.name, cols, rows };
    match app.store.open_terminal(job, attempt, &new, app.clock.now_ms()).await? {
        Opened::Terminal(terminal) => {
            let detail = format!("terminal {}, attempt {attempt}", terminal.id);
            let target = format!("job:{job}");
            audit(app, &admin.0.actor(), "terminal.open", &target, &detail).await?;
            Ok(terminal)
        }
        Opened::NotHeld => {
            Err(Error::Conflict(format!("the machine of job {job} is not kept any more")))
        }
        Opened::TooMany => {
            let text = format!("{MAX_TERMINALS} terminals are open already; close one");
            Err(Error::Conflict(text))
        }
    }
}

/// Closes a terminal. False when it was closed already.
///
/// # Errors
/// Database errors.
pub async fn close(app: &App, admin: &SiteAdmin, terminal: &Terminal) -> Result<bool, Error> {
    let closed = app.store.close_terminal(terminal.id, app.clock.now_ms()).await?;
    if closed {
        let (target, detail) =
            (format!("job:{}", terminal.job_id), format!("terminal {}", terminal.id));
        audit(app, &admin.0.actor(), "terminal.close", &target, &detail).await?;
    }
    Ok(closed)
}

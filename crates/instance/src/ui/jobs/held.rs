//! What the job page says of a job's machine: whether it is kept, until when, and who looked into it.

use protocol::hold::HoldEnd;
use store::{Hold, Job, JobState, Terminal, TerminalEnd};

use super::{HeldView, HoldForm, TerminalRow};
use crate::App;
use crate::ui::executors::Fact;
use crate::ui::format::{self, Html};

/// What the form offers first.
const USUAL_MINUTES: u64 = 30;

/// The form, where there is something to decide.
pub(super) fn form(app: &App, job: &Job) -> Option<HoldForm> {
    let max = app.config.current().max_hold.0 / 60;
    if job.state.is_final() || max == 0 {
        return None;
    }
    let seconds = job.hold_seconds.min(app.config.current().max_hold.0);
    let kept = (seconds > 0).then(|| match seconds % 60 {
        0 => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    });
    let minutes = if seconds >= 60 { seconds / 60 } else { USUAL_MINUTES };
    Some(HoldForm { kept, minutes: minutes.min(max), max })
}

/// The machines that are kept now.
pub(super) async fn held(
    app: &App,
    job: &Job,
    site_admin: bool,
    now: i64,
) -> store::Result<Vec<HeldView>> {
    let open: Vec<Hold> =
        app.store.holds(job.id).await?.into_iter().filter(Hold::is_open).collect();
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let terminals = if site_admin { app.store.terminals(job.id).await? } else { Vec::new() };
    let view = |hold: Hold| HeldView {
        attempt: hold.attempt,
        older: hold.attempt != job.attempt,
        left: format::left(hold.held_until, now),
        until: format::at(hold.held_until),
        terminals: terminals
            .iter()
            .filter(|t| t.is_open() && t.attempt == hold.attempt)
            .map(|t| (t.id, t.opened_by.clone()))
            .collect(),
        executor: hold.executor,
        released_by: hold.released_by,
    };
    Ok(open.into_iter().map(view).collect())
}

/// What became of the machine of an attempt, once it is over.
pub(super) async fn fact(app: &App, job: &Job, attempt: i64) -> store::Result<Option<Fact>> {
    let value = match app.store.hold(job.id, attempt).await? {
        Some(hold) => {
            let Some(ended) = hold.ended_at else { return Ok(None) };
            let time = format::duration(ended - hold.held_at);
            match (hold.end, hold.released_by.as_str()) {
                (Some(HoldEnd::Released), by) => format!("kept {time}, released by {by}"),
                (Some(end), _) => format!("kept {time}, {}", words(end)),
                (None, _) => format!("kept {time}"),
            }
        }
        None => {
            let failed = matches!(job.state, JobState::Failed | JobState::Errored);
            if !failed || job.hold_seconds == 0 || attempt != job.attempt {
                return Ok(None);
            }
            // It cannot, may not, or there was no machine yet when the job failed.
            "not kept by its executor".to_owned()
        }
    };
    Ok(Some(Fact { name: "Machine", value: Html::text(&value) }))
}

fn words(end: HoldEnd) -> &'static str {
    match end {
        HoldEnd::Expired => "until its time was over",
        HoldEnd::Released => "released",
        HoldEnd::MachineGone => "until it ended by itself",
        HoldEnd::ExecutorStopped => "until its executor was stopped",
        HoldEnd::ExecutorLost => "until its executor was lost",
    }
}

/// A machine of the job is kept.
pub(super) async fn is_held(app: &App, job: i64) -> store::Result<bool> {
    Ok(app.store.holds(job).await?.iter().any(Hold::is_open))
}

/// All terminals to machines of the job, newest first.
pub(super) async fn terminals(app: &App, job: i64, now: i64) -> store::Result<Vec<TerminalRow>> {
    let row = |terminal: Terminal| TerminalRow {
        id: terminal.id,
        href: format!("/jobs/{job}/terminal/{}", terminal.id),
        when: format::ago(terminal.opened_at, now),
        outcome: outcome(&terminal),
        color: if terminal.is_open() { "blue" } else { "" },
        note: match terminal.closed_at {
            Some(at) => format!(
                "{} · {} printed",
                format::duration(at - terminal.opened_at),
                format::bytes(terminal.output_size)
            ),
            None => String::new(),
        },
        who: terminal.opened_by,
    };
    Ok(app.store.terminals(job).await?.into_iter().rev().map(row).collect())
}

/// How a terminal ended, in words.
pub(super) fn outcome(terminal: &Terminal) -> String {
    let text = match (terminal.end, terminal.exit_code) {
        (None, _) => "open",
        (Some(TerminalEnd::Exited), Some(code)) if code >= 0 => return format!("exit {code}"),
        (Some(TerminalEnd::Exited), _) => "killed",
        (Some(TerminalEnd::Closed), _) => "closed",
        (Some(TerminalEnd::OutputLimit), _) => "too much output",
        (Some(TerminalEnd::InputLimit), _) => "too much input",
        (Some(TerminalEnd::HoldEnded), _) => "machine gone",
    };
    text.to_owned()
}

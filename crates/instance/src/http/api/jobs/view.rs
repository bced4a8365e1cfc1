//! Stored jobs as the API shows them.

use store::PhaseStart;

use crate::App;
use crate::http::api::types::{
    Artifact, HeldMachine, Job, JobHold, JobResult, JobSummary, LogEntry, Phase, time,
};
use crate::http::auth::User;
use crate::http::error::Error;

use super::why;

/// A row of a list.
pub(super) fn summary(job: &store::Job) -> JobSummary {
    JobSummary {
        id: job.id,
        queue: job.queue.clone(),
        state: job.state.as_str().to_owned(),
        name: job.name.clone(),
        repository: job.repository.clone(),
        commit: job.commit.clone(),
        creator: job.creator_name.clone(),
        priority: job.priority,
        attempt: job.attempt,
        executor: job.executor.clone(),
        cancel_requested: job.cancel_requested,
        created_at: time(job.created_at),
        started_at: job.started_at.map(time),
        finished_at: job.finished_at.map(time),
        reason: job.reason.map(|reason| reason.as_str().to_owned()),
        exit_code: job.exit_code,
    }
}

/// Everything about a job that `user` may see.
pub(super) async fn full(app: &App, user: &User, job: &store::Job) -> Result<Job, Error> {
    let now = app.clock.now_ms();
    let why_queued = app.store.why_queued(job.id, now).await?;
    let phases = app.store.phases(job.id, job.attempt).await?;
    let mut view = Job {
        summary: summary(job),
        yours: user.owns(job),
        why_queued: why_queued.map(|facts| why::explain(&facts, now)),
        resets: job.num_resets,
        phases: timed(&phases, job.finished_at),
        usage: job.usage.map(Into::into),
        hold: hold(app, job).await?,
        ..Job::default()
    };
    if view.yours {
        view.message.clone_from(&job.message);
        view.entries = entries(app, job).await?;
        view.results = results(app, job).await?;
        view.artifacts = artifacts(app, job).await?;
    }
    Ok(view)
}

async fn hold(app: &App, job: &store::Job) -> Result<Option<JobHold>, Error> {
    let machine = |hold: store::Hold| HeldMachine {
        attempt: hold.attempt,
        executor: hold.executor,
        held_at: time(hold.held_at),
        held_until: time(hold.held_until),
        released_by: Some(hold.released_by).filter(|name| !name.is_empty()),
        ended_at: hold.ended_at.map(time),
        end: hold.end.map(|end| end.as_str().to_owned()),
    };
    let machines: Vec<_> = app.store.holds(job.id).await?.into_iter().map(machine).collect();
    let some = job.hold_seconds > 0 || !machines.is_empty();
    Ok(some.then_some(JobHold { seconds: job.hold_seconds, machines }))
}

/// A phase lasts until the next one begins, the last one until the job ends.
fn timed(phases: &[PhaseStart], finished_at: Option<i64>) -> Vec<Phase> {
    let ends = phases.iter().skip(1).map(|next| Some(next.began_at)).chain([finished_at]);
    let phase = |(phase, end): (&PhaseStart, Option<i64>)| Phase {
        phase: phase.phase.as_str().to_owned(),
        started_at: time(phase.began_at),
        duration_ms: end.map(|end| (end - phase.began_at).max(0)),
    };
    phases.iter().zip(ends).map(phase).collect()
}

async fn entries(app: &App, job: &store::Job) -> Result<Vec<LogEntry>, Error> {
    let entries = app.store.log_entries(job.id, job.attempt).await?;
    let entry = |entry: store::LogEntry| LogEntry {
        id: entry.entry_id,
        key: entry.key,
        command: entry.command.unwrap_or_default(),
        started_at: entry.start_time,
        exit_code: entry.exit_code,
        duration_ms: entry.duration_ms,
        size: i64::try_from(entry.stored).unwrap_or(i64::MAX),
    };
    Ok(entries.into_iter().map(entry).collect())
}

async fn results(app: &App, job: &store::Job) -> Result<Vec<JobResult>, Error> {
    let results = app.store.results(job.id, job.attempt).await?;
    let result = |result: store::JobResult| JobResult {
        kind: result.kind,
        name: result.name,
        // The store keeps the text that was JSON when it came in.
        value: serde_json::from_str(&result.value).unwrap_or_default(),
    };
    Ok(results.into_iter().map(result).collect())
}

/// Kept files of the current or last attempt.
pub(super) async fn artifacts(app: &App, job: &store::Job) -> Result<Vec<Artifact>, Error> {
    let artifacts = app.store.artifacts(job.id, job.attempt).await?;
    let artifact = |a: store::Artifact| Artifact { path: a.path, size: a.size, sha256: a.sha256 };
    Ok(artifacts.into_iter().map(artifact).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Phase as P;

    #[test]
    fn a_phase_lasts_until_the_next() {
        let starts = [
            PhaseStart { phase: P::Preparing, began_at: 1000 },
            PhaseStart { phase: P::Booting, began_at: 1500 },
        ];
        let durations = |end| timed(&starts, end).iter().map(|p| p.duration_ms).collect::<Vec<_>>();
        assert_eq!(durations(None), [Some(500), None]);
        assert_eq!(durations(Some(1700)), [Some(500), Some(200)]);
    }
}

//! The page of one job.

use std::sync::Arc;

use askama::Template as _;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::HeaderMap;
use serde::Deserialize;
use store::{Attempt, Job, JobState};

use super::position::Position;
use super::{
    Amount, ArtifactView, AttemptView, JobHead, JobPage, JobSide, ONLY_OWNERS, ResultView, failure,
    find, held, list, log, phases, state, title,
};
use crate::App;
use crate::http::api::jobs::why;
use crate::http::error::Error;
use crate::ui::answer;
use crate::ui::error::sentence;
use crate::ui::executors::Fact;
use crate::ui::format::{self, Html};
use crate::ui::page::Place;
use crate::ui::visitor::Visitor;

/// Results and artifacts shown; all of them are in the API.
const MAX_SHOWN: usize = 200;
/// Characters shown of one result.
const MAX_RESULT: usize = 4_000;

/// Which attempt to show.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::ui) struct Choice {
    attempt: Option<i64>,
}

/// `GET /jobs/{id}`: everybody who is logged in; output only for the creator and site admins.
pub(in crate::ui) async fn page(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Path(id): Path<i64>,
    Query(choice): Query<Choice>,
) -> Result<Response, Error> {
    let job = find(&app, id).await?;
    let now = app.clock.now_ms();
    let attempt = choice.attempt.unwrap_or(job.attempt);
    let live = !job.state.is_final() && attempt == job.attempt;
    // Its page goes on while its machine is kept.
    let held = attempt == job.attempt && held::is_held(&app, id).await?;
    let yours = visitor.user.owns(&job);
    let entries = if yours { app.store.log_entries(id, attempt).await? } else { Vec::new() };
    let groups = log::groups(&app.store, id, &entries, live, now).await?;
    let shown = groups.iter().flat_map(|group| &group.entries).map(|entry| (entry.id, entry.end));
    let position = Position { attempt, shown: shown.collect() };
    let head = head(&app, &visitor, &job, now).await?;
    let side = side(&app, &visitor, &job, attempt, now).await?;
    let mark =
        |html: Result<String, _>| html.map(|html| format::mark(&html)).map_err(Error::internal);
    let (head_mark, side_mark) = (mark(head.render())?, mark(side.render())?);
    let page = JobPage {
        page: visitor.page(&app, &title(&job), &format!("/jobs/{id}"), Place::Jobs),
        id,
        queue: job.queue.clone(),
        stream: (live || held)
            .then(|| format!("/jobs/{id}/stream?head={head_mark}&side={side_mark}&at={position}")),
        raw_log: format!("/api/v1/jobs/{id}/logs?attempt={attempt}"),
        yours,
        older: Some(attempt).filter(|attempt| *attempt != job.attempt),
        head,
        groups,
        side,
    };
    answer::page(&visitor, &page)
}

/// The upper part as it is now.
pub(super) async fn head(
    app: &App,
    visitor: &Visitor,
    job: &Job,
    now: i64,
) -> store::Result<JobHead> {
    let yours = visitor.user.owns(job);
    let starts = app.store.phases(job.id, job.attempt).await?;
    let ended = (job.state != JobState::Processing)
        .then(|| job.finished_at.unwrap_or(job.queued_at))
        .map(|at| starts.last().map_or(at, |last| at.max(last.began_at)));
    let why = app.store.why_queued(job.id, now).await?;
    let waiting = why.map(|facts| sentence(&why::explain(&facts, now))).into_iter().collect();
    let shows_phases = job.state != JobState::Queued;
    Ok(JobHead {
        id: job.id,
        csrf: visitor.user.csrf().to_owned(),
        site_admin: visitor.user.is_site_admin(),
        title: title(job),
        state: state::view(job.state, job.cancel_requested),
        repository: job.repository.clone(),
        commit: job.commit.clone(),
        commit_short: job.commit.chars().take(12).collect(),
        user: job.creator_name.clone(),
        attempt: job.attempt,
        executor: Some(job.executor.clone()).filter(|name| !name.is_empty() && shows_phases),
        took: list::took(job, now),
        queued: format::ago(job.queued_at, now),
        can_cancel: yours && !job.state.is_final(),
        canceling: job.cancel_requested && job.state == JobState::Processing,
        can_retry: yours && job.state.is_final(),
        failure: failure::view(job, yours),
        waiting,
        phases: phases::bar(&starts, ended, now).filter(|_| shows_phases),
        hold: held::form(app, job).filter(|_| visitor.user.is_site_admin()),
        held: held::held(app, job, visitor.user.is_site_admin(), now).await?,
    })
}

/// The right part as it is now.
pub(super) async fn side(
    app: &App,
    visitor: &Visitor,
    job: &Job,
    attempt: i64,
    now: i64,
) -> store::Result<JobSide> {
    let yours = visitor.user.owns(job);
    let terminals = if visitor.user.is_site_admin() {
        held::terminals(app, job.id, now).await?
    } else {
        Vec::new()
    };
    let attempts = app.store.attempts(job.id).await?;
    let usage = attempts.iter().find(|a| a.attempt == attempt).and_then(|a| a.usage);
    let (mut results, mut artifacts) = (Vec::new(), Vec::new());
    if yours {
        results = app.store.results(job.id, attempt).await?;
    }
    // Downloads are of the current or last attempt.
    if yours && attempt == job.attempt {
        artifacts = app.store.artifacts(job.id, attempt).await?;
    }
    let result = |result: store::JobResult| ResultView {
        name: result.name,
        kind: result.kind,
        value: pretty(&result.value),
    };
    let artifact = |artifact: store::Artifact| ArtifactView {
        href: format!("/api/v1/jobs/{}/artifacts/{}", job.id, encode_path(&artifact.path)),
        path: artifact.path,
        size: format::bytes(artifact.size.max(0).unsigned_abs()),
    };
    Ok(JobSide {
        results: results.into_iter().take(MAX_SHOWN).map(result).collect(),
        artifacts: artifacts.into_iter().take(MAX_SHOWN).map(artifact).collect(),
        usage: usage.map(amounts).unwrap_or_default(),
        details: details(job).into_iter().chain(held::fact(app, job, attempt).await?).collect(),
        attempts: if attempts.len() > 1 {
            attempts.iter().rev().map(|a| attempt_view(job, a, attempt, yours, now)).collect()
        } else {
            Vec::new()
        },
        terminals,
    })
}

fn pretty(json: &str) -> String {
    let text = serde_json::from_str::<serde_json::Value>(json)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| json.to_owned());
    match text.char_indices().nth(MAX_RESULT) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn encode_path(path: &str) -> String {
    let segment = |segment| url::form_urlencoded::byte_serialize(str::as_bytes(segment)).collect();
    // Form encoding writes a blank as `+`, which means itself in a path.
    path.split('/')
        .map(segment)
        .map(|s: String| s.replace('+', "%20"))
        .collect::<Vec<_>>()
        .join("/")
}

fn amounts(usage: protocol::Usage) -> Vec<Amount> {
    let amount = |name, value| Amount { name, value };
    let mut amounts = vec![
        amount("CPU time", format::duration(i64::try_from(usage.cpu_ms).unwrap_or(i64::MAX))),
        amount("Peak memory", format::bytes(usage.peak_memory_bytes)),
        amount("Disk written", format::bytes(usage.disk_bytes)),
        amount("Output", format::bytes(usage.output_bytes)),
    ];
    if usage.network_in_bytes + usage.network_out_bytes > 0 {
        let (down, up) = (usage.network_in_bytes, usage.network_out_bytes);
        let text = format!("{} in, {} out", format::bytes(down), format::bytes(up));
        amounts.push(amount("Network", text));
    }
    if usage.network_blocked > 0 {
        amounts.push(amount("Network attempts refused", usage.network_blocked.to_string()));
    }
    amounts
}

fn details(job: &Job) -> Vec<Fact> {
    let mut facts = vec![
        Fact { name: "Queue", value: Html::text(&job.queue) },
        Fact { name: "Priority", value: Html::text(&job.priority.to_string()) },
        Fact { name: "Submitted", value: format::at(job.created_at) },
    ];
    if let Some(at) = job.started_at {
        facts.push(Fact { name: "Started", value: format::at(at) });
    }
    if let Some(at) = job.finished_at {
        facts.push(Fact { name: "Ended", value: format::at(at) });
    }
    if let Some(code) = job.exit_code {
        facts.push(Fact { name: "Exit code", value: Html::text(&code.to_string()) });
    }
    facts
}

fn attempt_view(job: &Job, attempt: &Attempt, shown: i64, yours: bool, now: i64) -> AttemptView {
    let (outcome, color) = state::outcome(&attempt.outcome);
    let mut note = attempt.executor.clone();
    if let Some(reason) = attempt.reason {
        note.push_str(&format!(" · {}", reason.as_str()));
    } else if yours && !attempt.message.is_empty() {
        note.push_str(&format!(" · {}", attempt.message));
    }
    AttemptView {
        number: attempt.attempt,
        href: format!("/jobs/{}?attempt={}", job.id, attempt.attempt),
        shown: attempt.attempt == shown,
        color,
        outcome,
        when: format::ago(attempt.started_at, now),
        note,
    }
}

/// From where to show.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::ui) struct Before {
    before: u64,
}

/// `GET /jobs/{id}/log/{attempt}/{entry}?before=BYTE`: output before that byte, for the open page. Without
/// JavaScript it leads to the whole log.
pub(in crate::ui) async fn earlier(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Path((id, attempt, entry)): Path<(i64, i64, i64)>,
    Query(before): Query<Before>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let job = find(&app, id).await?;
    if !visitor.user.owns(&job) {
        return Err(Error::Forbidden(ONLY_OWNERS.to_owned()));
    }
    if !headers.contains_key("hx-request") {
        let to = format!("/api/v1/jobs/{id}/logs?attempt={attempt}");
        return Ok(Redirect::to(&to).into_response());
    }
    let entries = app.store.log_entries(id, attempt).await?;
    let entry = entries.iter().find(|e| e.entry_id == entry).ok_or(Error::NotFound("log entry"))?;
    let piece = log::before(&app.store, id, entry, before.before).await?;
    let mut html: String = piece.lines.iter().map(crate::ui::ansi::Line::html).collect();
    html.push_str(&log::earlier(id, entry, piece.start, true).render().map_err(Error::internal)?);
    Ok(axum::response::Html(html).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_paths_are_encoded_segment_by_segment() {
        assert_eq!(encode_path("out/a b+c/ü?#.txt"), "out/a%20b%2Bc/%C3%BC%3F%23.txt");
    }

    #[test]
    fn results_are_pretty_and_cut() {
        assert_eq!(pretty("{\"a\":1}"), "{\n  \"a\": 1\n}");
        assert!(pretty(&format!("\"{}\"", "ü".repeat(9000))).chars().count() <= MAX_RESULT + 1);
    }
}

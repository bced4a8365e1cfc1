//! The list of jobs, newest first.

use std::sync::Arc;

use askama::Template as _;
use axum::extract::{Query, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use store::{Job, JobFilter, JobState, Topic};

use super::{Choice, FilterView, JobRow, JobsList, JobsPage, Tab, state};
use crate::App;
use crate::http::error::Error;
use crate::ui::answer;
use crate::ui::format::{self, Html};
use crate::ui::list_stream::{self, Fragment, ListSource};
use crate::ui::page::Place;
use crate::ui::sse;
use crate::ui::visitor::Visitor;

/// Jobs on one page.
const PAGE: i64 = 50;

/// What to list, as in the address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::ui) struct Filter {
    queue: String,
    state: String,
    repository: String,
    q: String,
    before: Option<i64>,
    /// What the page shows, in the address of its live updates.
    have: String,
    /// The same, when a connection is taken up again.
    resume: String,
}

impl Filter {
    fn is_filtered(&self) -> bool {
        !(self.state.is_empty() && self.repository.is_empty() && self.q.is_empty())
    }

    fn query(&self, cursor: Option<(&str, i64)>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("queue", &self.queue),
            ("state", &self.state),
            ("repository", &self.repository),
            ("q", &self.q),
        ];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        if let Some((name, id)) = cursor {
            query.append_pair(name, &id.to_string());
        }
        query.finish()
    }

    fn store_filter(&self) -> JobFilter {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        JobFilter {
            queue: some(&self.queue),
            state: JobState::parse(&self.state),
            repository: some(&self.repository),
            text: some(self.q.trim()),
            before: self.before,
            limit: PAGE + 1,
            ..JobFilter::default()
        }
    }
}

/// `GET /jobs`: everybody who is logged in.
pub(in crate::ui) async fn page(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Query(filter): Query<Filter>,
) -> Result<Response, Error> {
    let list = rows(&app, &filter).await?;
    let mark = format::mark(&list.render().map_err(Error::internal)?);
    let here = filter.query(filter.before.map(|id| ("before", id)));
    let tab = |queue: &str, title| {
        let of = Filter { queue: queue.to_owned(), before: None, ..filter.clone() };
        Tab { href: format!("/jobs?{}", of.query(None)), title, current: filter.queue == queue }
    };
    let tabs = vec![
        tab("", "All queues"),
        tab(store::policy::JOBS, "jobs"),
        tab(store::policy::BATCHES, "batches"),
        tab(store::policy::CODEINTEL, "codeintel"),
    ];
    let states = JobState::ALL.map(|job_state| Choice {
        value: job_state.as_str().to_owned(),
        label: state::view(job_state, false).label.to_owned(),
        selected: filter.state == job_state.as_str(),
    });
    let names = app.store.repositories().await?.into_iter().map(|repository| repository.name);
    let repositories = names.map(|name| Choice {
        selected: filter.repository == name,
        value: name.clone(),
        label: name,
    });
    let unfiltered = Filter { queue: filter.queue.clone(), ..Filter::default() };
    let page = JobsPage {
        page: visitor.page(&app, "Jobs", "/jobs", Place::Jobs),
        tabs,
        states: states.into(),
        repositories: repositories.collect(),
        filtered: filter.is_filtered(),
        clear: format!("/jobs?{}", unfiltered.query(None)),
        stream: format!("/jobs/stream?have={mark}&{here}"),
        filter: FilterView { queue: filter.queue, q: filter.q },
        list,
    };
    answer::page(&visitor, &page)
}

/// `GET /jobs/stream`: the list again whenever it changes.
pub(in crate::ui) async fn stream(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Response {
    let wake = app.store.subscribe([Topic::Jobs]);
    let shown = list_stream::shown(&headers, &filter.resume, &filter.have).to_owned();
    let source = ListSource::new(LiveRows { app: Arc::clone(&app), filter }, wake, &shown);
    sse::respond(app, visitor, source)
}

struct LiveRows {
    app: Arc<App>,
    filter: Filter,
}

impl Fragment for LiveRows {
    async fn render(&self) -> store::Result<String> {
        let list = rows(&self.app, &self.filter).await?;
        Ok(list.render().unwrap_or_default())
    }
}

async fn rows(app: &App, filter: &Filter) -> store::Result<JobsList> {
    let now = app.clock.now_ms();
    let mut jobs = app.store.jobs(&filter.store_filter()).await?;
    let more = jobs.len() as i64 > PAGE;
    jobs.truncate(PAGE as usize);
    let link = |cursor| format!("/jobs?{}", filter.query(cursor));
    let older = jobs.last().filter(|_| more).map(|job| link(Some(("before", job.id))));
    let range = match (jobs.first(), jobs.last()) {
        (Some(first), Some(last)) if first.id != last.id => {
            format!("#{} to #{}", first.id, last.id)
        }
        (Some(only), _) => format!("#{}", only.id),
        _ => String::new(),
    };
    Ok(JobsList {
        filtered: filter.is_filtered() || filter.before.is_some(),
        rows: jobs.iter().map(|job| row(job, now)).collect(),
        range,
        newest: filter.before.is_some().then(|| link(None)),
        older,
    })
}

fn row(job: &Job, now: i64) -> JobRow {
    let mut note = job.queue.clone();
    if job.attempt > 1 {
        note.push_str(&format!(" · attempt {}", job.attempt));
    }
    if let Some(reason) = job.reason {
        note.push_str(" · ");
        note.push_str(reason.as_str());
    }
    JobRow {
        id: job.id,
        title: super::title(job),
        state: state::view(job.state, job.cancel_requested),
        note,
        repository: job.repository.clone(),
        commit: job.commit.chars().take(7).collect(),
        executor: if job.state == JobState::Queued { String::new() } else { job.executor.clone() },
        took: took(job, now).unwrap_or_default(),
        queued_at: format::ago(job.queued_at, now),
    }
}

/// How long the current or last attempt ran.
pub(super) fn took(job: &Job, now: i64) -> Option<Html> {
    match (job.state, job.started_at, job.finished_at) {
        (JobState::Processing, Some(start), _) => Some(format::running_since(start, now)),
        (JobState::Queued, ..) => None,
        (_, Some(start), Some(end)) => Some(Html::text(&format::duration(end - start))),
        _ => None,
    }
}

//! Templates of Maintenance › Executors.

use askama::Template;

use crate::ui::format::Html;
use crate::ui::page::Page;

/// The page.
#[derive(Template)]
#[template(path = "executors.html")]
pub struct ExecutorsPage {
    /// The frame.
    pub page: Page,
    /// `executors.accessToken` is set.
    pub configured: bool,
    /// Search text.
    pub query: String,
    /// Filter.
    pub active_only: bool,
    /// Address of the live updates of this view.
    pub stream: String,
    /// The list.
    pub list: ExecutorsList,
}

/// The list, which also travels alone to open pages.
#[derive(Template)]
#[template(path = "executors_list.html")]
pub struct ExecutorsList {
    /// Goes into its forms.
    pub csrf: String,
    /// A search or filter is in effect.
    pub filtered: bool,
    /// For the empty state.
    pub start_command: String,
    /// `3 executors, 2 active, 4 jobs running`.
    pub summary: String,
    /// The executors.
    pub rows: Vec<ExecutorRow>,
}

/// One executor.
pub struct ExecutorRow {
    /// Row id.
    pub id: i64,
    /// Host name.
    pub name: String,
    /// Seen in the last 15 s.
    pub active: bool,
    /// CSS colour of the dot.
    pub dot: &'static str,
    /// `Active`, `Draining`, `Not seen`.
    pub status: &'static str,
    /// Queues it takes jobs from.
    pub queues: Vec<String>,
    /// `qemu · kvm`; `None` for stock executors, which do not say.
    pub runtime: Option<String>,
    /// Its runtime isolates jobs by a virtual machine (or it does not say).
    pub sandboxed: bool,
    /// Only when there is something to do.
    pub compatibility: Option<CompatibilityView>,
    /// Slots, if it says.
    pub capacity: Option<Capacity>,
    /// A drain was requested or is under way.
    pub drain: bool,
    /// The site admin asked for it.
    pub drain_requested: bool,
    /// When.
    pub last_seen: Html,
    /// Its own version.
    pub version: String,
    /// `linux/amd64`.
    pub platform: String,
    /// What it runs now.
    pub jobs: Vec<JobLink>,
    /// Failed jobs whose machines it keeps.
    pub held: Vec<HeldLink>,
    /// Last error that was not a job's own.
    pub last_error: String,
    /// When it was reported.
    pub last_error_at: Option<Html>,
    /// Everything else.
    pub details: Vec<Fact>,
}

/// Whether the versions fit.
pub struct CompatibilityView {
    /// CSS colour.
    pub color: &'static str,
    /// Badge.
    pub label: &'static str,
    /// What to do.
    pub hint: String,
}

/// Slots.
pub struct Capacity {
    /// `2/4`.
    pub text: String,
    /// One per slot, set when in use; empty when there are too many to draw.
    pub pips: Vec<bool>,
}

/// A job with its name.
pub struct JobLink {
    /// Id.
    pub id: i64,
    /// Name; may be empty.
    pub title: String,
}

/// A named value.
pub struct Fact {
    /// Name.
    pub name: &'static str,
    /// Value.
    pub value: Html,
}

/// A machine that is kept.
pub struct HeldLink {
    /// Of this job.
    pub job: i64,
    /// How long still.
    pub left: Html,
}

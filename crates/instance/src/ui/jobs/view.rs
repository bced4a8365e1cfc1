//! Templates of the jobs' pages.

use askama::Template;

use crate::ui::editor::{Editor, ProblemView};
use crate::ui::format::Html;
use crate::ui::page::Page;

/// The list of jobs.
#[derive(Template)]
#[template(path = "jobs.html")]
pub struct JobsPage {
    /// The frame.
    pub page: Page,
    /// Queues.
    pub tabs: Vec<Tab>,
    /// The filter in effect.
    pub filter: FilterView,
    /// Choices of the state filter.
    pub states: Vec<Choice>,
    /// Choices of the repository filter.
    pub repositories: Vec<Choice>,
    /// More than the queue is filtered.
    pub filtered: bool,
    /// This queue without filters.
    pub clear: String,
    /// Address of the live updates of this view.
    pub stream: String,
    /// The rows.
    pub list: JobsList,
}

/// A queue's tab.
pub struct Tab {
    /// Its address.
    pub href: String,
    /// Its name.
    pub title: &'static str,
    /// It is shown now.
    pub current: bool,
}

/// What was asked for.
#[derive(Debug, Default)]
pub struct FilterView {
    /// Queue; empty = all.
    pub queue: String,
    /// Search text.
    pub q: String,
}

/// An option of a select.
pub struct Choice {
    /// Value.
    pub value: String,
    /// Text.
    pub label: String,
    /// Chosen.
    pub selected: bool,
}

/// One page of rows, which also travels alone to open pages.
#[derive(Template)]
#[template(path = "jobs_list.html")]
pub struct JobsList {
    /// A filter is in effect.
    pub filtered: bool,
    /// The rows.
    pub rows: Vec<JobRow>,
    /// What part this is.
    pub range: String,
    /// Address of the first page, from a later one.
    pub newest: Option<String>,
    /// Address of the page after.
    pub older: Option<String>,
}

/// One job in the list.
pub struct JobRow {
    /// Id.
    pub id: i64,
    /// Its name, or what it is.
    pub title: String,
    /// State.
    pub state: StateView,
    /// Beside the number: failure reason, attempt.
    pub note: String,
    /// Repository; may be empty.
    pub repository: String,
    /// Short commit.
    pub commit: String,
    /// Executor; may be empty.
    pub executor: String,
    /// How long it ran or runs.
    pub took: Html,
    /// When it was queued.
    pub queued_at: Html,
}

/// A state as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateView {
    /// Wire name.
    pub name: &'static str,
    /// Text.
    pub label: &'static str,
    /// CSS colour.
    pub color: &'static str,
    /// Something is going on.
    pub live: bool,
}

/// The form for a new job.
#[derive(Template)]
#[template(path = "job_new.html")]
pub struct NewJobPage {
    /// The frame.
    pub page: Page,
    /// Mistakes in what was sent.
    pub problems: Vec<ProblemView>,
    /// The job file.
    pub editor: Editor,
}

/// One job.
#[derive(Template)]
#[template(path = "job.html")]
pub struct JobPage {
    /// The frame.
    pub page: Page,
    /// Id.
    pub id: i64,
    /// Queue.
    pub queue: String,
    /// Address of the live updates; `None` once it has ended.
    pub stream: Option<String>,
    /// Address of the whole log as text.
    pub raw_log: String,
    /// The reader may see output.
    pub yours: bool,
    /// The log is that of this earlier attempt.
    pub older: Option<i64>,
    /// State, failure, phases.
    pub head: JobHead,
    /// Set-up, steps, tear-down.
    pub groups: Vec<LogGroup>,
    /// Results, artifacts, usage, attempts.
    pub side: JobSide,
}

/// Upper part of the job page.
#[derive(Template)]
#[template(path = "job_head.html")]
pub struct JobHead {
    /// Id.
    pub id: i64,
    /// Goes into its forms.
    pub csrf: String,
    /// The reader is a site admin.
    pub site_admin: bool,
    /// Name.
    pub title: String,
    /// State.
    pub state: StateView,
    /// Repository; may be empty.
    pub repository: String,
    /// Full commit.
    pub commit: String,
    /// Its beginning.
    pub commit_short: String,
    /// Who submitted it; may be empty.
    pub user: String,
    /// 1 for the first run.
    pub attempt: i64,
    /// Where it runs or ran.
    pub executor: Option<String>,
    /// How long it ran or runs.
    pub took: Option<Html>,
    /// When it was queued.
    pub queued: Html,
    /// The reader may cancel it.
    pub can_cancel: bool,
    /// A cancel was requested already.
    pub canceling: bool,
    /// The reader may queue it again.
    pub can_retry: bool,
    /// Why it did not complete.
    pub failure: Option<Failure>,
    /// Why it waits.
    pub waiting: Vec<String>,
    /// Phases of this attempt.
    pub phases: Option<PhaseBar>,
    /// For site admins, while it is not over: whether its machine is kept if it fails.
    pub hold: Option<HoldForm>,
    /// Machines that are kept.
    pub held: Vec<HeldView>,
}

/// Whether a job's machine is kept if it fails.
#[derive(Debug)]
pub struct HoldForm {
    /// How long, for people; `None` = it is not kept.
    pub kept: Option<String>,
    /// Minutes that the form offers.
    pub minutes: u64,
    /// Most minutes.
    pub max: u64,
}

/// A machine that is kept.
#[derive(Debug)]
pub struct HeldView {
    /// The attempt that failed on it.
    pub attempt: i64,
    /// The attempt must be said: the job ran again since.
    pub older: bool,
    /// Who keeps it.
    pub executor: String,
    /// How long still.
    pub left: Html,
    /// When it goes.
    pub until: Html,
    /// Who let it go; it is about to.
    pub released_by: String,
    /// Terminals that are open, with who opened them; for site admins.
    pub terminals: Vec<(i64, String)>,
}

/// Why a job did not complete.
pub struct Failure {
    /// CSS class.
    pub color: &'static str,
    /// Wire name of the reason; may be empty.
    pub reason: String,
    /// In words.
    pub title: String,
    /// What the executor said.
    pub evidence: String,
    /// What to do.
    pub hint: &'static str,
}

/// The phases.
#[derive(Debug, PartialEq, Eq)]
pub struct PhaseBar {
    /// Parts of the bar, which is 1000 wide.
    pub segments: Vec<Segment>,
    /// All five phases.
    pub phases: Vec<PhaseView>,
}

/// A part of the bar.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of the phase.
    pub index: usize,
    /// Left.
    pub x: i64,
    /// Width.
    pub width: i64,
    /// It is going on.
    pub live: bool,
}

/// One phase.
#[derive(Debug, PartialEq, Eq)]
pub struct PhaseView {
    /// From 0.
    pub index: usize,
    /// For people.
    pub name: &'static str,
    /// `done`, `now` or `later`.
    pub class: &'static str,
    /// How long.
    pub time: Html,
}

/// Log entries that belong together.
pub struct LogGroup {
    /// `setup`, `steps` or `teardown`.
    pub key: &'static str,
    /// Heading.
    pub title: &'static str,
    /// The entries.
    pub entries: Vec<EntryView>,
}

/// A log entry with the end of its output.
#[derive(Template)]
#[template(path = "job_entry.html")]
pub struct EntryView {
    /// Id, from 1.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// For people.
    pub name: String,
    /// Unfolded.
    pub open: bool,
    /// The line that is always visible.
    pub summary: EntrySummary,
    /// The way to what is not shown.
    pub earlier: Earlier,
    /// Up to which byte the output is shown.
    pub end: u64,
    /// The lines, each rendered by [`crate::ui::ansi::Line::html`].
    pub lines: Vec<String>,
}

/// A log entry's line, which also travels alone to open pages.
#[derive(Clone, Template)]
#[template(path = "job_entry_summary.html")]
pub struct EntrySummary {
    /// Id.
    pub id: i64,
    /// It replaces the one on the page.
    pub oob: bool,
    /// CSS colour.
    pub color: &'static str,
    /// It has not ended.
    pub running: bool,
    /// `ok`, `exit 2`, `running`.
    pub status: String,
    /// For people.
    pub name: String,
    /// What ran.
    pub command: String,
    /// How long.
    pub took: Html,
}

/// The way to output before the part shown.
#[derive(Clone, Template)]
#[template(path = "job_log_earlier.html")]
pub struct Earlier {
    /// Log entry.
    pub entry: i64,
    /// Address of the part before.
    pub action: String,
    /// It replaces the one on the page.
    pub oob: bool,
    /// Byte at which the part shown starts; 0 = everything is shown.
    pub before: u64,
    /// `1.2 MiB before this`.
    pub hidden_text: String,
}

/// Right part of the job page.
#[derive(Template)]
#[template(path = "job_side.html")]
pub struct JobSide {
    /// Results.
    pub results: Vec<ResultView>,
    /// Files.
    pub artifacts: Vec<ArtifactView>,
    /// What it used.
    pub usage: Vec<Amount>,
    /// Everything else.
    pub details: Vec<crate::ui::executors::Fact>,
    /// All runs, if there were several.
    pub attempts: Vec<AttemptView>,
    /// Terminals to its machines, for site admins.
    pub terminals: Vec<TerminalRow>,
}

/// A terminal in the list of a job's.
pub struct TerminalRow {
    /// Id.
    pub id: i64,
    /// Its page.
    pub href: String,
    /// Who opened it.
    pub who: String,
    /// When.
    pub when: Html,
    /// How it ended, or that it is open.
    pub outcome: String,
    /// CSS colour.
    pub color: &'static str,
    /// How long, and how much was printed.
    pub note: String,
}

/// A terminal to a kept machine.
#[derive(Template)]
#[template(path = "terminal.html")]
pub struct TerminalPage {
    /// The frame.
    pub page: Page,
    /// The job.
    pub job: i64,
    /// The terminal.
    pub terminal: store::Terminal,
    /// Its page, and what is below it.
    pub address: String,
    /// The reader opened it and may type.
    pub yours: bool,
    /// It is not closed.
    pub open: bool,
    /// How it ended.
    pub outcome: String,
    /// When it was opened.
    pub opened: Html,
    /// Who keeps the machine; empty when it is gone.
    pub executor: String,
    /// How long it is kept still.
    pub left: Option<Html>,
}

/// A result.
pub struct ResultView {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// JSON.
    pub value: String,
}

/// A file.
pub struct ArtifactView {
    /// Where to download it.
    pub href: String,
    /// Path in the workspace.
    pub path: String,
    /// Size.
    pub size: String,
}

/// A named amount.
pub struct Amount {
    /// Name.
    pub name: &'static str,
    /// With unit.
    pub value: String,
}

/// One run.
pub struct AttemptView {
    /// From 1.
    pub number: i64,
    /// Its page.
    pub href: String,
    /// It is shown now.
    pub shown: bool,
    /// CSS colour.
    pub color: &'static str,
    /// How it ended.
    pub outcome: String,
    /// When it began.
    pub when: Html,
    /// Executor and message.
    pub note: String,
}

//! Samples of the jobs' pages.

use super::{MINUTE, NOW, page, render};
use crate::ui::ansi::{Line, Renderer};
use crate::ui::editor::{At, Editor, ProblemView};
use crate::ui::executors::Fact;
use crate::ui::format::{self, Html};
use crate::ui::jobs::*;
use crate::ui::page::{Page, Place};

const COMPLETED: StateView =
    StateView { name: "completed", label: "Completed", color: "green", live: false };
const PROCESSING: StateView =
    StateView { name: "processing", label: "Processing", color: "blue", live: true };
const FAILED: StateView = StateView { name: "failed", label: "Failed", color: "red", live: false };
const QUEUED: StateView = StateView { name: "queued", label: "Queued", color: "grey", live: false };

pub(super) fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("jobs", render(&jobs(rows()))),
        ("jobs-empty", render(&jobs(Vec::new()))),
        ("job-new", render(&new_job())),
        ("job-failed", render(&failed())),
        ("job-live", render(&live())),
        ("job-queued", render(&queued())),
        ("job-held", render(&held())),
        ("terminal", render(&terminal())),
    ]
}

fn jobs(rows: Vec<JobRow>) -> JobsPage {
    let tab = |title, current| Tab { href: "/jobs?queue=".to_owned(), title, current };
    let choice = |value: &str, label: &str| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        selected: false,
    };
    JobsPage {
        page: page("Jobs", "/jobs", Place::Jobs),
        tabs: vec![
            tab("All queues", true),
            tab("jobs", false),
            tab("batches", false),
            tab("codeintel", false),
        ],
        filter: FilterView::default(),
        states: vec![choice("queued", "Queued"), choice("processing", "Processing")],
        repositories: vec![choice("example/app", "example/app")],
        filtered: false,
        clear: "/jobs".to_owned(),
        stream: "/jobs/stream".to_owned(),
        list: JobsList {
            filtered: false,
            range: format!("{} of 312", rows.len()),
            rows,
            newest: None,
            older: Some("/jobs?before=17".to_owned()),
        },
    }
}

fn rows() -> Vec<JobRow> {
    let row = |id, title: &str, state, note: &str, took| JobRow {
        id,
        title: title.to_owned(),
        state,
        note: note.to_owned(),
        repository: "example/app".to_owned(),
        commit: "4b825dc".to_owned(),
        executor: "build-farm-01".to_owned(),
        took,
        queued_at: format::ago(NOW - id * MINUTE, NOW),
    };
    let ran = |ms| Html::text(&format::duration(ms));
    let waiting = JobRow {
        executor: String::new(),
        ..row(3, "index example/app", QUEUED, "codeintel", Html::default())
    };
    vec![
        row(
            2,
            "count lines of every source file",
            PROCESSING,
            "jobs",
            format::running_since(NOW - 12_000, NOW),
        ),
        waiting,
        row(5, "compile and test", FAILED, "jobs · guest_oom", ran(185_000)),
        row(9, "nightly build", COMPLETED, "jobs · attempt 2", ran(4260)),
        JobRow {
            repository: String::new(),
            commit: String::new(),
            ..row(11, "echo", COMPLETED, "jobs", ran(2100))
        },
    ]
}

fn new_job() -> NewJobPage {
    let text = "name: count lines\nrepository: example/app\nsteps:\n  - image: executors.internal/base:1\n    run: |\n      git log -1\n      find . -name '*.rs' | xargs wc -l\nresources: { memory: lots }\n";
    let problems = vec![ProblemView {
        at: Some(At { line: 8, column: 22 }),
        message: "resources.memory: expected a size like 2G".to_owned(),
    }];
    NewJobPage {
        page: Page { narrow: true, ..page("New job", "/jobs/new", Place::NewJob) },
        editor: Editor::new("file", text.to_owned(), &problems),
        problems,
    }
}

fn head(state: StateView) -> JobHead {
    JobHead {
        id: 5,
        csrf: "token".to_owned(),
        site_admin: true,
        title: "compile and test".to_owned(),
        state,
        repository: "example/app".to_owned(),
        commit: "4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned(),
        commit_short: "4b825dc642cb".to_owned(),
        user: "ada".to_owned(),
        attempt: 2,
        executor: Some("build-farm-01".to_owned()),
        took: Some(Html::text("3 min 5 s")),
        queued: format::ago(NOW - 5 * MINUTE, NOW),
        can_cancel: state.live,
        canceling: false,
        can_retry: !state.live,
        failure: None,
        waiting: Vec::new(),
        phases: None,
        hold: None,
        held: Vec::new(),
    }
}

fn bar(now: Option<usize>) -> PhaseBar {
    let names = ["Preparing", "Booting", "Running", "Collecting", "Reporting"];
    let widths = [110, 60, 780, 30, 20];
    let mut x = 0;
    let mut segments = Vec::new();
    for (index, width) in widths.into_iter().enumerate().take(now.map_or(5, |n| n + 1)) {
        segments.push(Segment { index, x, width, live: now == Some(index) });
        x += width;
    }
    let phases = names.into_iter().enumerate().map(|(index, name)| {
        let class = match now {
            Some(now) if index == now => "now",
            Some(now) if index > now => "later",
            _ => "done",
        };
        let time = if class == "later" { Html::default() } else { Html::text("1.2 s") };
        PhaseView { index, name, class, time }
    });
    PhaseBar { phases: phases.collect(), segments }
}

fn entry(
    id: i64,
    name: &str,
    color: &'static str,
    status: &str,
    open: bool,
    log: &str,
) -> EntryView {
    let summary = EntrySummary {
        id,
        oob: false,
        color,
        running: status == "running",
        status: status.to_owned(),
        name: name.to_owned(),
        command: "/bin/sh /data/.sourcegraph-executor/0.0_4b825dc.sh".to_owned(),
        took: Html::text("1.2 s"),
    };
    let lines = Renderer::new(0, false).feed(log.as_bytes()).iter().map(Line::html).collect();
    let before = if open { 70_000 } else { 0 };
    EntryView {
        id,
        key: format!("step.docker.{name}"),
        name: name.to_owned(),
        open,
        summary,
        earlier: Earlier {
            entry: id,
            action: format!("/jobs/5/log/{id}"),
            oob: false,
            before,
            hidden_text: "68.4 KiB before this".to_owned(),
        },
        end: log.len() as u64,
        lines,
    }
}

const LOG: &str = "stdout: \u{1b}[1;32m   Compiling\u{1b}[0m app v0.1.0 (/data)\nstderr: \u{1b}[33mwarning\u{1b}[0m: unused variable: `x`\nstderr:   \u{1b}[34m-->\u{1b}[0m src/main.rs:3:9\nstdout: <script>alert('no')</script>\nstdout: \u{1b}]8;;https://evil.example\u{1b}\\a link that is none\u{1b}]8;;\u{1b}\\\nstderr: \u{1b}[1;31merror\u{1b}[0m: could not compile `app`: process didn't exit successfully: `rustc --crate-name app --edition=2021 src/main.rs --error-format=json --json=diagnostic-rendered-ansi` (signal: 9, SIGKILL: kill)\n";

fn groups() -> Vec<LogGroup> {
    vec![
        LogGroup {
            key: "setup",
            title: "Set-up",
            entries: vec![
                entry(1, "git fetch", "green", "ok", false, "stderr: From instance\n"),
                entry(2, "image base:1", "green", "ok", false, ""),
            ],
        },
        LogGroup {
            key: "steps",
            title: "Steps",
            entries: vec![
                entry(3, "compile", "green", "ok", false, "stdout: fine\n"),
                entry(4, "test", "red", "exit 101", true, LOG),
            ],
        },
        LogGroup {
            key: "teardown",
            title: "Tear-down",
            entries: vec![entry(5, "vm", "green", "ok", false, "")],
        },
    ]
}

fn side() -> JobSide {
    let amount = |name, value: &str| Amount { name, value: value.to_owned() };
    let attempt = |number, color, outcome: &str, note: &str| AttemptView {
        number,
        href: format!("/jobs/5?attempt={number}"),
        shown: number == 2,
        color,
        outcome: outcome.to_owned(),
        when: format::ago(NOW - (10 - number) * MINUTE, NOW),
        note: note.to_owned(),
    };
    JobSide {
        results: vec![ResultView {
            name: "lines".to_owned(),
            kind: "output".to_owned(),
            value: "{\n  \"rust\": 12034\n}".to_owned(),
        }],
        artifacts: vec![ArtifactView {
            href: "#".to_owned(),
            path: "out/report/summary.html".to_owned(),
            size: "12.1 KiB".to_owned(),
        }],
        usage: vec![
            amount("CPU time", "2 min 41 s"),
            amount("Peak memory", "512.0 MiB"),
            amount("Disk written", "1.2 GiB"),
            amount("Output", "1.1 MiB"),
        ],
        details: vec![
            Fact { name: "Queue", value: Html::text("jobs") },
            Fact { name: "Priority", value: Html::text("0") },
            Fact { name: "Queued", value: format::at(NOW - 5 * MINUTE) },
            Fact { name: "Started", value: format::at(NOW - 4 * MINUTE) },
        ],
        attempts: vec![
            attempt(2, "red", "Failed", "build-farm-01"),
            attempt(1, "amber", "Lost", "build-farm-02 · no heartbeat for 25 s"),
        ],
        terminals: Vec::new(),
    }
}

fn job(head: JobHead, stream: Option<String>, groups: Vec<LogGroup>) -> JobPage {
    JobPage {
        page: page("compile and test", "/jobs/5", Place::Jobs),
        id: 5,
        queue: "jobs".to_owned(),
        stream,
        yours: true,
        older: None,
        raw_log: "/jobs/5/log.txt".to_owned(),
        head,
        groups,
        side: side(),
    }
}

fn failed() -> JobPage {
    let failure = Failure {
        color: "bad",
        reason: "guest_oom".to_owned(),
        title: "The job ran out of memory".to_owned(),
        evidence: "Out of memory: Killed process 212 (rustc) total-vm:812345kB, anon-rss:498120kB"
            .to_owned(),
        hint: "Give it more with resources.memory in the job file.",
    };
    let head = JobHead { failure: Some(failure), phases: Some(bar(None)), ..head(FAILED) };
    job(head, None, groups())
}

fn live() -> JobPage {
    let hold = HoldForm { kept: Some("30 min".to_owned()), minutes: 30, max: 60 };
    let head = JobHead { phases: Some(bar(Some(2))), hold: Some(hold), ..head(PROCESSING) };
    job(head, Some("/jobs/5/stream?after=17".to_owned()), groups())
}

fn held() -> JobPage {
    let view = |attempt, left| HeldView {
        attempt,
        older: attempt != 2,
        executor: format!("build-farm-0{attempt}"),
        left: format::left(NOW + left, NOW),
        until: format::at(NOW + left),
        released_by: String::new(),
        terminals: vec![(7, "ada".to_owned())],
    };
    let released = HeldView { released_by: "bob <b>".to_owned(), ..view(1, MINUTE) };
    let mut page = failed();
    page.head.held = vec![view(2, 27 * MINUTE), released];
    let row = |id, outcome: &str, color, note: &str| TerminalRow {
        id,
        href: format!("/jobs/5/terminal/{id}"),
        who: "ada".to_owned(),
        when: format::ago(NOW - 3 * MINUTE, NOW),
        outcome: outcome.to_owned(),
        color,
        note: note.to_owned(),
    };
    page.side.terminals =
        vec![row(7, "open", "blue", ""), row(6, "exit 0", "", "2 min 4 s · 12.1 KiB printed")];
    page
}

fn terminal() -> TerminalPage {
    TerminalPage {
        page: page("Terminal 7", "/jobs/5/terminal/7", Place::Jobs),
        job: 5,
        terminal: store::Terminal {
            id: 7,
            job_id: 5,
            attempt: 2,
            opened_by_id: 1,
            opened_by: "ada".to_owned(),
            cols: 80,
            rows: 24,
            opened_at: NOW - MINUTE,
            closed_at: None,
            end: None,
            exit_code: None,
            input_size: 0,
            output_size: 0,
        },
        address: "/jobs/5/terminal/7".to_owned(),
        yours: true,
        open: true,
        outcome: "open".to_owned(),
        opened: format::ago(NOW - MINUTE, NOW),
        executor: "build-farm-01".to_owned(),
        left: Some(format::left(NOW + 27 * MINUTE, NOW)),
    }
}

fn queued() -> JobPage {
    let waiting = vec![
        "3 jobs are ahead of it.".to_owned(),
        "No active executor takes jobs from the queue “jobs”.".to_owned(),
    ];
    let head = JobHead {
        waiting,
        executor: None,
        took: None,
        can_cancel: true,
        can_retry: false,
        ..head(QUEUED)
    };
    job(head, Some("/jobs/5/stream?after=1".to_owned()), Vec::new())
}

//! Samples of the Maintenance pages.

use super::{MINUTE, NOW, page, render, token};
use crate::ui::configuration::ConfigurationPage;
use crate::ui::editor::{At, Editor, ProblemView};
use crate::ui::executors::{
    Capacity, CompatibilityView, ExecutorRow, ExecutorsList, ExecutorsPage, Fact, HeldLink, JobLink,
};
use crate::ui::flash::Flash;
use crate::ui::format::{self, Html};
use crate::ui::images::{ImageRow, ImagesPage};
use crate::ui::page::{Page, Place};
use crate::ui::repositories::{RepositoriesList, RepositoriesPage, RepositoryForm, RepositoryRow};
use crate::ui::users::{UserForm, UserRow, UsersPage};

pub(super) fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("executors", render(&executors(rows()))),
        ("executors-empty", render(&executors(Vec::new()))),
        ("repositories", render(&repositories())),
        ("images", render(&images())),
        ("configuration", render(&configuration())),
        ("users", render(&users())),
    ]
}

fn executors(rows: Vec<ExecutorRow>) -> ExecutorsPage {
    ExecutorsPage {
        page: Page { flash: Some(Flash::Draining), ..page("Executors", "/site-admin/executors", Place::Executors) },
        configured: !rows.is_empty(),
        query: String::new(),
        active_only: false,
        stream: "/site-admin/executors/stream?q=".to_owned(),
        list: ExecutorsList {
            csrf: "token".to_owned(),
            filtered: false,
            start_command: "EXECUTOR_FRONTEND_URL=https://instance.example.com \\\nEXECUTOR_FRONTEND_PASSWORD=… \\\nEXECUTOR_QUEUE_NAMES=jobs,batches,codeintel \\\nexecutor run".to_owned(),
            summary: "4 executors · 3 active · 2 jobs running".to_owned(),
            rows,
        },
    }
}

fn row(id: i64, name: &str) -> ExecutorRow {
    ExecutorRow {
        id,
        name: name.to_owned(),
        active: true,
        dot: "green",
        status: "Active",
        queues: vec!["jobs".to_owned(), "batches".to_owned()],
        runtime: Some("qemu · kvm".to_owned()),
        sandboxed: true,
        compatibility: None,
        capacity: Some(Capacity { text: "2/4".to_owned(), pips: vec![true, true, false, false] }),
        drain: false,
        drain_requested: false,
        last_seen: format::ago(NOW - 3000, NOW),
        version: "0.1.0".to_owned(),
        platform: "linux/amd64".to_owned(),
        held: Vec::new(),
        jobs: vec![
            JobLink { id: 41, title: "count lines of every source file".to_owned() },
            JobLink { id: 42, title: String::new() },
        ],
        last_error: String::new(),
        last_error_at: None,
        details: vec![
            Fact { name: "Operating system", value: Html::text("linux") },
            Fact { name: "Architecture", value: Html::text("amd64") },
            Fact { name: "Executor", value: Html::text("0.1.0") },
            Fact { name: "Git", value: Html::text("2.39.5") },
            Fact { name: "Docker", value: Html::text("n/a") },
            Fact { name: "src", value: Html::text("n/a") },
            Fact { name: "First seen", value: format::at(NOW - 9000 * MINUTE) },
        ],
    }
}

fn rows() -> Vec<ExecutorRow> {
    let keeping = ExecutorRow {
        capacity: Some(Capacity { text: "3/4".to_owned(), pips: vec![true, true, true, false] }),
        held: vec![HeldLink { job: 5, left: format::left(NOW + 27 * MINUTE, NOW) }],
        ..row(1, "build-farm-01.internal.example.com")
    };
    let draining = ExecutorRow {
        dot: "amber",
        status: "Draining",
        drain: true,
        drain_requested: true,
        jobs: vec![],
        capacity: Some(Capacity { text: "0/2".to_owned(), pips: vec![false, false] }),
        last_error: "image store: no space left on device (os error 28)".to_owned(),
        ..row(2, "build-farm-02.internal.example.com")
    };
    let plain = ExecutorRow {
        runtime: Some("docker · not sandboxed".to_owned()),
        sandboxed: false,
        queues: vec!["codeintel".to_owned()],
        jobs: vec![],
        capacity: Some(Capacity { text: "0/2".to_owned(), pips: vec![false, false] }),
        ..row(3, "laptop-of-grace")
    };
    let old = ExecutorRow {
        active: false,
        dot: "grey",
        status: "Not seen",
        runtime: None,
        capacity: None,
        jobs: vec![],
        version: "3.40.0".to_owned(),
        last_seen: format::ago(NOW - 180 * MINUTE, NOW),
        compatibility: Some(CompatibilityView {
            color: "amber",
            label: "Outdated",
            hint: "The executor is older than this instance. Upgrade it to 0.1.".to_owned(),
        }),
        ..row(4, "exec-7")
    };
    vec![keeping, draining, plain, old]
}

fn repositories() -> RepositoriesPage {
    let row = |id, name: &str, state, color, error: &str| RepositoryRow {
        id,
        name: name.to_owned(),
        url: format!("https://git.example.com/{name}.git"),
        state,
        color,
        branch: "main".to_owned(),
        size: "1.2 MiB".to_owned(),
        synced: Some(format::ago(NOW - 12 * MINUTE, NOW)),
        error: error.to_owned(),
    };
    RepositoriesPage {
        page: page("Repositories", "/site-admin/repositories", Place::Repositories),
        form: RepositoryForm {
            name: "bad name".to_owned(),
            name_error: Some("name may hold letters, digits and ._/-".to_owned()),
            ..RepositoryForm::default()
        },
        stream: "/site-admin/repositories/stream".to_owned(),
        list: RepositoriesList {
            csrf: "token".to_owned(),
            rows: vec![
                row(1, "example/app", "Ready", "green", ""),
                row(2, "example/docs", "Cloning", "blue", ""),
                row(
                    3,
                    "example/secret",
                    "Error",
                    "red",
                    "fatal: could not read Username for 'https://git.example.com': terminal prompts disabled",
                ),
            ],
        },
    }
}

fn images() -> ImagesPage {
    let row = |reference: &str| ImageRow {
        reference: reference.to_owned(),
        digest: format!("sha256:{}", "ab12".repeat(16)),
        digest_short: "sha256:ab12ab12ab12".to_owned(),
        kind: "OCI image".to_owned(),
        imported: format::ago(NOW - 3000 * MINUTE, NOW),
    };
    ImagesPage {
        page: page("Images", "/site-admin/images", Place::Images),
        rows: vec![row("base:1"), row("job-helper:0.1.0")],
    }
}

fn configuration() -> ConfigurationPage {
    let text = "// How this instance works. Comments and trailing commas are fine.\n{\n  \"externalURL\": \"https://instance.example.com\",\n\n  // Executors prove themselves with this.\n  \"executors.accessToken\": \"REDACTED\",\n  \"jobs.retentionDay\": 30,\n  \"limits.timeout\": \"two days\",\n}\n";
    let problem = |line, column, message: &str| ProblemView {
        at: Some(At { line, column }),
        message: message.to_owned(),
    };
    let problems = vec![
        problem(7, 3, "unknown key \"jobs.retentionDay\", did you mean \"jobs.retentionDays\"?"),
        problem(8, 21, "limits.timeout: expected a duration like \"2h\""),
    ];
    ConfigurationPage {
        page: page("Site configuration", "/site-admin/configuration", Place::Configuration),
        version: "e1".to_owned(),
        conflict: true,
        error: None,
        editor: Editor::new("text", text.to_owned(), &problems),
        problems,
    }
}

fn users() -> UsersPage {
    let row = |id, name: &str, site_admin, me| UserRow {
        id,
        username: name.to_owned(),
        site_admin,
        me,
        created: format::ago(NOW - 90_000 * MINUTE, NOW),
        tokens: vec![token(1, "laptop", Some(NOW - MINUTE)), token(2, "ci", None)],
    };
    UsersPage {
        page: page("Users and tokens", "/site-admin/users", Place::Users),
        form: UserForm::default(),
        rows: vec![
            row(1, "ada", true, true),
            row(2, "grace", true, false),
            row(3, "linus", false, false),
        ],
    }
}

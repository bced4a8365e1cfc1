//! The form for a new job.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::NewJobPage;
use crate::App;
use crate::http::auth::UserForm;
use crate::http::error::Error;
use crate::job_file::submit::{self, Options};
use crate::job_file::{JobFile, Submitter};
use crate::ui::answer;
use crate::ui::editor::{self, Editor, ProblemView};
use crate::ui::flash::Flash;
use crate::ui::page::Place;
use crate::ui::visitor::Visitor;

/// A form begins with this.
const EXAMPLE: &str = "\
name: hello
steps:
  - image: executors.internal/base:1
    run: |
      uname -a
      echo \"Hello from a virtual machine.\"
# repository: example/app     # checked out as the workspace
# artifacts: [\"out/**\"]
# resources: { cpus: 2, memory: 2G, disk: 10G }
# timeout: 10m
";

fn show(app: &App, visitor: &Visitor, text: String, problems: Vec<ProblemView>) -> NewJobPage {
    let mut page = visitor.page(app, "New job", "/jobs/new", Place::NewJob);
    page.narrow = true;
    NewJobPage { page, editor: Editor::new("file", text, &problems), problems }
}

/// `GET /jobs/new`: everybody who is logged in.
pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Result<Response, Error> {
    answer::page(&visitor, &show(&app, &visitor, EXAMPLE.to_owned(), Vec::new()))
}

#[derive(Deserialize)]
pub(super) struct Typed {
    file: String,
}

/// `POST /jobs/new`: everybody who is logged in, within their limits. Larger files go through the API.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    UserForm(user, Typed { file }): UserForm<Typed>,
) -> Result<Response, Error> {
    // Browsers send line ends as CR LF, which a shell would take for a part of each command.
    let text = file.replace("\r\n", "\n");
    let by = if user.is_site_admin() { Submitter::SiteAdmin } else { Submitter::User };
    let (status, problems) = match JobFile::parse(&text, &app.config.current(), by) {
        Err(problems) => (StatusCode::BAD_REQUEST, editor::problems(&problems)),
        Ok(_) => match submit::submit(&app, &user, &text, Options::default()).await {
            Ok(job) => {
                let path = format!("/jobs/{}", job.id);
                return Ok(answer::go(&app, &path, Flash::Submitted));
            }
            // What is wrong with the whole: unknown repository or revision, too many jobs.
            Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => {
                let problem = ProblemView { at: None, message: error.to_string() };
                (error.status(), vec![problem])
            }
            Err(error) => return Err(error),
        },
    };
    let visitor = Visitor::new(user, &headers);
    answer::html(status, &show(&app, &visitor, text, problems))
}

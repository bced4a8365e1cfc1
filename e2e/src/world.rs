//! An instance with a repository and an image, ready for executors and jobs: where most stories begin.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, Job};
use crate::engine::Engine;
use crate::executor::Executor;
use crate::folder::Folder;
use crate::instance::Instance;
use crate::program::run_command;
use crate::wait::until_true;

/// Long enough for anything that must happen, even on a slow machine with other tests beside it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The image that test jobs run in.
pub const IMAGE: &str = "executors.internal/busybox:1";

/// One test's own system.
pub struct World {
    // Fields are dropped in this order: the programs before their folder.
    /// The instance; it knows the repository `sample` and the image [`IMAGE`].
    pub instance: Instance,
    /// The API as admin.
    pub api: Api,
    /// The commit of `sample`.
    pub commit: String,
    folder: Folder,
}

impl World {
    /// On SQLite.
    pub async fn new() -> Self {
        Self::on(None).await
    }

    /// On the database at this URL.
    pub async fn on(database: Option<String>) -> Self {
        let folder = Folder::new();
        let instance = Instance::start(folder.path(), database).await;
        instance.import_image("busybox");
        let commit = sample_repository(&folder.sub("sample"));
        instance.add_repository("sample", &folder.path().join("sample"));
        Self { api: instance.api(), instance, commit, folder }
    }

    /// The test's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts an executor and waits until the instance sees it.
    pub async fn executor(&self, name: &str, settings: &[(&str, &str)]) -> Executor {
        let before = self.api.executors().await.len();
        let mut executor = self.executor_at(&self.instance.url(), name, settings);
        until_true("the executor is seen", PATIENCE, async || {
            let running = executor.program().is_running();
            assert!(running, "it ended at once:\n{}", executor.program().log_tail(20));
            self.api.executors().await.len() > before
        })
        .await;
        executor
    }

    /// [`Self::executor`] for jobs in containers of the engine, if there is one.
    pub async fn executor_on(
        &self,
        engine: Option<&Engine>,
        name: &str,
        settings: &[(&str, &str)],
    ) -> Executor {
        let of_engine: Vec<_> = engine.map(Engine::settings).into_iter().flatten().collect();
        let of_engine = of_engine.iter().map(|(name, value)| (*name, value.as_str()));
        let all: Vec<_> = of_engine.chain(settings.iter().copied()).collect();
        self.executor(name, &all).await
    }

    /// Starts an executor that reaches the instance by this URL, for example through a proxy.
    pub fn executor_at(&self, url: &str, name: &str, settings: &[(&str, &str)]) -> Executor {
        Executor::start(self.path(), name, url, &self.instance.access_token, settings)
    }

    /// Submits a job of one step with this script.
    pub async fn submit(&self, script: &str) -> Job {
        self.api.submit(&job(script)).await
    }
}

/// A job file: one step with this script, in the smallest image, on the sample repository.
pub fn job(script: &str) -> Value {
    json!({
        "repository": "sample",
        "steps": [{ "name": "main", "image": IMAGE, "run": script }],
    })
}

/// A repository with a few files; gives its commit.
fn sample_repository(folder: &Path) -> String {
    std::fs::create_dir(folder.join("src")).expect("the test's folder is writable");
    for (name, text) in [("README", "A sample.\n"), ("src/one", "1\n"), ("src/two", "1\n2\n")] {
        std::fs::write(folder.join(name), text).expect("the test's folder is writable");
    }
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(folder).args(["-c", "user.name=e2e", "-c", "user.email=e2e@localhost"]);
        run_command(git.args(arguments))
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=A sample"]);
    git(&["rev-parse", "HEAD"]).trim().to_owned()
}

//! An instance with its folder, and a browser on it: where the stories begin.

use std::path::Path;
use std::process::Command;

use e2e::api::Api;
use e2e::folder::Folder;
use e2e::http::{client, free_port};
use e2e::instance::Instance;
use e2e::program::{Program, binary};
use e2e::scripted::ScriptedExecutor;
use e2e::wait::until_true;

use crate::browser::{Browser, PATIENCE};

/// Name and password of the admin that [`Instance`] makes.
const ADMIN: (&str, &str) = ("admin", "correct horse battery");

/// A site with its admin logged in.
pub struct Site {
    // Fields are dropped in this order: the programs before their folder.
    pub browser: Browser,
    pub instance: Instance,
    pub api: Api,
    _folder: Folder,
}

impl Site {
    /// `None` when there is no browser.
    pub async fn start() -> Option<Self> {
        let folder = Folder::new();
        let instance = Instance::start(folder.path(), None).await;
        let browser = Browser::start(folder.path(), &instance.url()).await?;
        log_in(&browser, ADMIN).await;
        browser.arrives("/jobs").await;
        Some(Self { api: instance.api(), browser, instance, _folder: folder })
    }

    /// An executor that only speaks HTTP, on the queue `jobs`.
    pub async fn executor(&self, name: &str) -> ScriptedExecutor {
        let token = &self.instance.access_token;
        ScriptedExecutor::connect(&self.instance.url(), token, "jobs", name).await
    }
}

/// Logs in on the log-in page.
pub async fn log_in(browser: &Browser, (name, password): (&str, &str)) {
    browser.open("/login").await;
    browser.type_into("#username", name).await;
    browser.type_into("#password", password).await;
    browser.press("Log in").await;
}

/// An instance that nobody has set up yet.
pub async fn fresh_instance(folder: &Path) -> (Program, String) {
    let port = free_port();
    let mut serve = Command::new(binary("instance"));
    serve.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
    serve.env("INSTANCE_DATA_DIR", folder.join("instance"));
    let program = Program::start("instance", serve, folder);
    let url = format!("http://127.0.0.1:{port}");
    let ready = format!("{url}/readyz");
    until_true("the instance is ready", PATIENCE, async || {
        client().get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    (program, url)
}

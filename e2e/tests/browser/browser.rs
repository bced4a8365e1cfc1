//! A Chromium of one test, with the few verbs that the stories need.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::http::{client, free_port};
use e2e::program::Program;
use e2e::wait::{until, until_true};
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// Long enough for a page on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium must neither phone home nor need what a build machine lacks.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with a profile of its own.
pub struct Browser {
    page: Client,
    base: String,
    /// Address of the driver.
    url: String,
    _driver: Program,
}

/// Chromium and its driver, if both are installed.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH")?;
    let find =
        |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.exists());
    Some((find("chromium")?, find("chromedriver")?))
}

impl Browser {
    /// Starts one for the instance at `base`; `None`, with a line that says so, when it is not installed.
    pub async fn start(folder: &Path, base: &str) -> Option<Self> {
        let Some((chromium, driver)) = programs() else {
            eprintln!("SKIPPED: chromium and chromedriver are not installed");
            return None;
        };
        let port = free_port();
        let mut command = Command::new(driver);
        command.arg(format!("--port={port}")).env("TMPDIR", folder);
        let driver = Program::start("chromedriver", command, folder);
        let url = format!("http://127.0.0.1:{port}");
        let status = format!("{url}/status");
        until_true("chromedriver is ready", PATIENCE, async || {
            client().get(&status).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        let profile = folder.join("profile");
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--user-data-dir={}", profile.display()));
        let options = json!({ "args": flags, "binary": chromium });
        let logs = json!({ "browser": "ALL" });
        let capabilities: Capabilities =
            [("goog:chromeOptions".to_owned(), options), ("goog:loggingPrefs".to_owned(), logs)]
                .into_iter()
                .collect();
        let page = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&url)
            .await
            .expect("chromium starts");
        page.set_window_size(1360, 900).await.expect("a window has a size");
        Some(Self { page, base: base.to_owned(), url, _driver: driver })
    }

    /// Goes to a path of the instance.
    pub async fn open(&self, path: &str) {
        self.page.goto(&format!("{}{path}", self.base)).await.expect("the page loads");
    }

    /// Path of the page it is on.
    pub async fn path(&self) -> String {
        self.page.current_url().await.expect("a page has an address").path().to_owned()
    }

    /// Waits until it is on this path.
    pub async fn arrives(&self, path: &str) {
        until_true(&format!("the browser is on {path}"), PATIENCE, async || {
            self.path().await == path
        })
        .await;
    }

    /// Types into a field, after what is in it.
    pub async fn type_into(&self, selector: &str, text: &str) {
        let field = self.page.wait().at_most(PATIENCE).for_element(Locator::Css(selector)).await;
        field.expect(selector).send_keys(text).await.expect("the field takes text");
    }

    /// Replaces the text of a field.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.run(
            "const field = document.querySelector(arguments[0]); field.value = arguments[1]; \
             field.dispatchEvent(new Event('input', { bubbles: true }));",
            vec![json!(selector), json!(text)],
        )
        .await;
    }

    /// Clicks an element.
    pub async fn click(&self, selector: &str) {
        self.click_on(Locator::Css(selector), selector).await;
    }

    /// Clicks the button with this text.
    pub async fn press(&self, text: &str) {
        let path = format!("//button[normalize-space()='{text}']");
        self.click_on(Locator::XPath(&path), text).await;
    }

    /// A live page may replace the element between looking and clicking: then once more.
    async fn click_on(&self, locator: Locator<'_>, what: &str) {
        until_true(&format!("{what:?} can be clicked"), PATIENCE, async || {
            let Ok(element) = self.page.find(locator).await else { return false };
            element.click().await.is_ok()
        })
        .await;
    }

    /// Runs a script in the page.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.page.execute(script, arguments).await.expect("the script runs")
    }

    /// Text of an element as a person reads it; empty when there is none.
    pub async fn text(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? '';";
        let text = self.run(script, vec![json!(selector)]).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// How many elements there are.
    pub async fn count(&self, selector: &str) -> u64 {
        let script = "return document.querySelectorAll(arguments[0]).length;";
        self.run(script, vec![json!(selector)]).await.as_u64().unwrap_or_default()
    }

    /// Value of a field.
    pub async fn value(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0]).value;";
        let value = self.run(script, vec![json!(selector)]).await;
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element has this text in it.
    pub async fn shows(&self, selector: &str, text: &str) {
        let mut last = String::new();
        let what = format!("{selector} shows {text:?}");
        let wait = until(&what, PATIENCE, async || {
            last = self.text(selector).await;
            last.contains(text).then_some(())
        });
        wait.await;
    }

    /// Marks the loaded page; [`Self::is_same_page`] tells later whether it was loaded anew.
    pub async fn mark(&self) {
        self.run("window.marked = true;", vec![]).await;
    }

    /// The page was not loaded again since [`Self::mark`].
    pub async fn is_same_page(&self) -> bool {
        self.run("return window.marked === true;", vec![]).await == json!(true)
    }

    /// What the browser complains about, for example a broken content security policy.
    pub async fn complaints(&self) -> Vec<String> {
        let script = "return window.complaints ?? [];";
        let list = self.run(script, vec![]).await;
        list.as_array().into_iter().flatten().map(Value::to_string).collect()
    }

    /// Collects what the content security policy blocks from now on.
    pub async fn watch_policy(&self) {
        self.run(
            "window.complaints = []; document.addEventListener('securitypolicyviolation', \
             (event) => window.complaints.push(event.violatedDirective + ' ' + event.blockedURI));",
            vec![],
        )
        .await;
    }

    /// What the browser wrote to its console since the last time, from the first moment of each page on:
    /// errors of scripts, and everything that the content security policy refused.
    pub async fn console(&self) -> Vec<String> {
        let session = self.page.session_id().await.expect("the driver answers");
        let url = format!("{}/session/{}/se/log", self.url, session.expect("a session"));
        let asked = client().post(url).json(&json!({ "type": "browser" })).send().await;
        let answer: Value = asked.expect("the driver answers").json().await.expect("a log");
        let lines = answer["value"].as_array().expect("a list");
        lines.iter().map(|line| line["message"].to_string()).collect()
    }

    /// A picture of the window.
    pub async fn picture(&self) -> Vec<u8> {
        self.page.screenshot().await.expect("a picture")
    }

    /// Sets the size of the window.
    pub async fn resize(&self, width: u32, height: u32) {
        self.page.set_window_size(width, height).await.expect("a window has a size");
    }
}

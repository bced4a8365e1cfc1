//! Every page, in both themes and two widths: nothing sticks out and nothing breaks the content security
//! policy. With `BROWSER_SCREENS_DIR` set, the pictures are kept there to be looked at.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::browser::Browser;
use crate::executors::hello;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_their_window_in_both_themes() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let executor = site.executor("build-farm-01.internal.example.com").await;
    let job = site.api.submit(&hello()).await;
    let taken = executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    let entry = executor.begin_log(&taken, "step.docker.hello").await;
    let log = "stdout: a_word_that_is_longer_than_a_telephone_is_wide_".repeat(40);
    executor.append(&taken, entry, 0, log, true).await;
    let executor = Arc::new(executor);
    let _held = executor.fail_and_hold(&taken, 1700, |line| Some(printed(line))).await;
    browser.open(&format!("/jobs/{}", job.id)).await;
    browser.press("Open terminal").await;
    browser.shows(".xterm-rows", "$").await;
    browser.type_into(".xterm-helper-textarea", "ls --color\n").await;
    browser.shows(".xterm-rows", "archive.tar").await;
    let terminal = browser.path().await;
    let running = site.api.submit(&hello()).await;
    executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    site.api.submit(&hello()).await;

    let running_page = format!("/jobs/{}", running.id);
    let job_page = format!("/jobs/{}", job.id);
    let pages = [
        ("jobs", "/jobs"),
        ("job", job_page.as_str()),
        ("job-running", running_page.as_str()),
        ("terminal", terminal.as_str()),
        ("new-job", "/jobs/new"),
        ("account", "/account"),
        ("executors", "/site-admin/executors"),
        ("repositories", "/site-admin/repositories"),
        ("images", "/site-admin/images"),
        ("configuration", "/site-admin/configuration"),
        ("users", "/site-admin/users"),
        ("not-found", "/no-such-page"),
    ];
    for theme in ["light", "dark"] {
        choose(browser, theme).await;
        for (name, path) in pages {
            browser.open(path).await;
            let shown = browser.run("return document.documentElement.dataset.theme;", vec![]).await;
            assert_eq!(shown, json!(theme), "{name}");
            for (width, height) in [(1360, 900), (500, 900)] {
                browser.resize(width, height).await;
                if name == "job-running" {
                    browser.run("document.querySelector('#hold-menu').open = true;", vec![]).await;
                }
                if name == "terminal" {
                    browser.shows(".xterm-rows", "archive.tar").await;
                }
                let script = "return document.documentElement.scrollWidth - window.innerWidth;";
                let over = browser.run(script, vec![]).await.as_i64().unwrap_or_default();
                assert!(over <= 0, "{name} is {over} pixels too wide for {width}, {theme}");
                keep(browser, &format!("{name}-{theme}-{width}")).await;
            }
        }
    }
}

/// A line of every colour.
fn printed(line: &str) -> Vec<u8> {
    let colors: String = (1..8).map(|n| format!("\x1b[1;3{n}mcolour{n}\x1b[0m  ")).collect();
    format!("{line}: {colors}\x1b[7mreverse\x1b[0m\r\narchive.tar  \x1b[34mfolder\x1b[0m\r\n")
        .into_bytes()
}

async fn choose(browser: &Browser, theme: &str) {
    browser.open("/account").await;
    let script = "const form = document.querySelector('form[action=\"/theme\"]'); \
                  form.querySelector('button').value = arguments[0]; \
                  form.requestSubmit(form.querySelector('button'));";
    browser.run(script, vec![json!(theme)]).await;
    browser.shows(".nav .foot", &format!("Theme: {theme}")).await;
}

async fn keep(browser: &Browser, name: &str) {
    if let Ok(dir) = std::env::var("BROWSER_SCREENS_DIR") {
        let path = format!("{dir}/{name}.png");
        std::fs::write(path, browser.picture().await).expect("the folder is writable");
    }
}

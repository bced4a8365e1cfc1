//! The page of a job, live, with output that wants to do harm.

use std::time::Duration;

use e2e::wait::until_true;
use serde_json::json;

use crate::browser::PATIENCE;
use crate::executors::hello;
use crate::site::Site;

/// Everything that a terminal or a browser might obey.
const HOSTILE: &str = "stdout: <script>window.pwned = 1</script>\n\
    stdout: <img src=x onerror=\"window.pwned = 2\">\n\
    stderr: \x1b[31mred\x1b[0m \x1b[2J\x1b[10;10Hmoved\n\
    stdout: \x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\\n\
    stdout: \x1b]52;c;cm0gLXJmIC8=\x07clip\x1b]0;pwned\x07title\n\
    stdout: </div></details><a href=\"javascript:window.pwned=3\">a</a>\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_from_the_queue_to_its_end() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let job = site.api.submit(&hello()).await;
    browser.open(&format!("/jobs/{}", job.id)).await;
    browser.watch_policy().await;
    browser.mark().await;
    browser.shows("h1", "say hello").await;
    browser.shows("#job-state", "Queued").await;
    browser.shows("#waiting", "executor").await;

    let executor = site.executor("exec-7").await;
    let taken = executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    browser.shows("#job-state", "Processing").await;
    let entry = executor.begin_log(&taken, "step.docker.hello").await;
    browser.shows(&format!("#entry-{entry}"), "running").await;

    let first = "stdout: hello\nstdout: half a li".to_owned();
    let more = "ne\nstdout: \u{1f600}\n".to_owned();
    executor.append(&taken, entry, 0, first.clone(), false).await;
    browser.shows(&format!("#lines-{entry}"), "hello\nhalf a li").await;
    executor.append(&taken, entry, first.len(), more, true).await;
    browser.shows(&format!("#lines-{entry}"), "half a line\n\u{1f600}").await;
    browser.shows(&format!("#entry-{entry}"), "ok").await;
    assert_eq!(browser.count(&format!("#lines-{entry} .ln")).await, 3);

    executor.complete(&taken).await;
    browser.shows("#job-state", "Completed").await;
    assert!(browser.is_same_page().await, "it all came without loading the page again");
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // The page shows the same to somebody who comes later.
    browser.open(&format!("/jobs/{}", job.id)).await;
    browser.shows(&format!("#lines-{entry}"), "hello\nhalf a line\n\u{1f600}").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_output_is_text() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let executor = site.executor("exec-7").await;
    let mut file = hello();
    file["name"] = json!("<script>window.pwned = 4</script>");
    let job = site.api.submit(&file).await;
    let taken = executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    let key = "step.docker.<img src=x onerror=window.pwned=5>";
    let entry = executor.begin_log(&taken, key).await;

    // Once as live updates, once as a part of the page.
    browser.open(&format!("/jobs/{}", job.id)).await;
    browser.watch_policy().await;
    let title = browser.run("return document.title;", vec![]).await;
    executor.append(&taken, entry, 0, HOSTILE.to_owned(), true).await;
    for live in [true, false] {
        if !live {
            browser.open(&format!("/jobs/{}", job.id)).await;
        }
        let lines = format!("#lines-{entry}");
        browser.shows(&lines, "<script>window.pwned = 1</script>").await;
        browser.shows(&lines, "red moved\nlink\ncliptitle").await;
        browser.shows(&lines, "</div></details><a href=").await;
        assert_eq!(browser.count(&format!("{lines} :is(a, script, img)")).await, 0);
        assert_eq!(browser.count(&format!("{lines} .f-1")).await, 1, "colours are shown");
        assert_eq!(browser.count(&format!("{lines} .ln.err")).await, 1);
        browser.shows("h1", "<script>").await;
        let pwned = browser.run("return window.pwned ?? null;", vec![]).await;
        assert_eq!(pwned, json!(null));
        assert_eq!(browser.run("return document.title;", vec![]).await, title);
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_shows_its_end_first_and_loads_the_rest_on_request() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let executor = site.executor("exec-7").await;
    let job = site.api.submit(&hello()).await;
    let taken = executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    let entry = executor.begin_log(&taken, "step.docker.hello").await;
    let log: String = (0..5000).map(|n| format!("stdout: line number {n}\n")).collect();
    executor.append(&taken, entry, 0, log.clone(), false).await;

    browser.open(&format!("/jobs/{}", job.id)).await;
    let lines = format!("#lines-{entry}");
    browser.shows(&lines, "line number 4999").await;
    let shown = browser.count(&format!("{lines} .ln")).await;
    assert!((500..3000).contains(&shown), "{shown} lines at first");
    browser.press("Load earlier").await;
    let all = async || browser.count(&format!("{lines} .ln")).await == 5000;
    until_true("the rest is loaded", PATIENCE, all).await;
    let first = browser.text(&format!("{lines} .ln:first-child")).await;
    assert_eq!(first.trim(), "line number 0");
    assert_eq!(browser.count(&format!("#earlier-{entry}:not([hidden])")).await, 0);

    // What comes next does not let the page grow without bounds.
    let next = "stdout: one more\n".to_owned();
    executor.append(&taken, entry, log.len(), next, true).await;
    browser.shows(&format!("{lines} .ln:last-child"), "one more").await;
    assert_eq!(browser.count(&format!("{lines} .ln")).await, 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_canceled_and_retried_with_buttons() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let job = site.api.submit(&hello()).await;
    browser.open(&format!("/jobs/{}", job.id)).await;
    browser.press("Cancel job").await;
    browser.shows(".flash", "being canceled").await;
    browser.shows("#job-state", "Canceled").await;
    assert_eq!(job.state().await, "canceled");

    browser.press("Retry").await;
    browser.shows(".flash", "queued again").await;
    let executor = site.executor("exec-7").await;
    executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    browser.shows("#job-state", "Processing").await;
    browser.press("Cancel job").await;
    browser.shows("#job-state", "Canceling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_file_is_submitted_from_the_page_and_its_mistakes_have_a_place() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    browser.open("/jobs/new").await;
    let bad =
        "name: x\nsteps:\n  - image: alpine:3.20\n    run: true\nresources: { memory: lots }\n";
    browser.fill("#file", bad).await;
    browser.press("Submit job").await;
    browser.shows("#problems", "line 5, column").await;
    browser.shows("#problems", "memory").await;
    assert_eq!(browser.value("#file").await.trim_end(), bad.trim_end(), "what was typed is kept");
    assert_eq!(browser.count(".gutter .bad").await, 1);

    browser.fill("#file", &bad.replace("lots", "1G")).await;
    browser.press("Submit job").await;
    browser.shows("h1", "x").await;
    browser.shows("#job-state", "Queued").await;
    browser.open("/jobs?state=queued").await;
    browser.mark().await;
    assert_eq!(browser.count("#jobs tbody tr").await, 1);
    site.api.submit(&hello()).await;
    browser.shows("#jobs", "say hello").await;
    assert!(browser.is_same_page().await, "a new job appears by itself");
}

//! A failed job's machine is kept, and a site admin looks into it.

use std::sync::Arc;
use std::time::Duration;

use e2e::scripted::ScriptedExecutor;
use e2e::scripted_shell::{Answer, Held};
use e2e::wait::{until_true, while_true};
use protocol::Job;
use serde_json::json;

use crate::browser::{Browser, PATIENCE};
use crate::executors::hello;
use crate::site::Site;

/// Everything that a terminal or a browser might obey, and colours that need styles.
const HOSTILE: &[u8] = b"\x1b]52;c;cm0gLXJmIC8=\x07\x1b]0;pwned title\x07\x1b]2;pwned\x07\x1b]1;icon\x07\
    \x1b]8;;https://evil.example\x1b\\a link\x1b]8;;\x1b\\ \x1b]1337;File=name=eA==;inline=1:aGk=\x07\
    <img src=x onerror=\"window.pwned=1\"><script>window.pwned=2</script>\
    \x1b[38;2;12;34;56mtrue colour\x1b[0m \x1b[8;1;1t\x1b[3;0;0t\x1b[2t \x1bP+q544e\x1b\\\x07\r\n";

/// The shell of the scripted executor.
fn answer(line: &str) -> Option<Vec<u8>> {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("exit", _) => None,
        ("echo", words) => Some(format!("said {words}\r\n").into_bytes()),
        ("attack", _) => Some(HOSTILE.to_vec()),
        _ => Some(b"?\r\n".to_vec()),
    }
}

/// A job that has failed and whose machine is kept.
async fn held(site: &Site, name: &str) -> (Arc<ScriptedExecutor>, Job, Held) {
    let executor = Arc::new(site.executor(name).await);
    site.api.submit(&hello()).await;
    let job = executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    let held = executor.fail_and_hold(&job, 1800, answer as Answer).await;
    (executor, job, held)
}

async fn open_terminal(browser: &Browser, job: &Job) -> String {
    browser.open(&format!("/jobs/{}", job.id)).await;
    browser.press("Open terminal").await;
    browser.shows("#terminal-state", "open").await;
    browser.shows(".xterm-rows", "$").await;
    browser.path().await
}

async fn type_keys(browser: &Browser, text: &str) {
    browser.type_into(".xterm-helper-textarea", text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_jobs_machine_is_kept_looked_into_and_released() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let executor = Arc::new(site.executor("exec-7").await);
    let id = site.api.submit(&hello()).await.id;
    let job = executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    assert_eq!(executor.wished_hold(&job).await, None);
    browser.open(&format!("/jobs/{id}")).await;
    browser.click("#hold-summary").await;
    browser.fill("#hold-minutes", "20").await;
    browser.press("Keep it").await;
    browser.shows(".flash", "If the job fails, its machine is kept").await;
    browser.shows("#hold-summary", "Kept 20 min if it fails").await;
    assert_eq!(executor.wished_hold(&job).await, Some(1200));
    browser.mark().await;
    browser.watch_policy().await;
    let _held = executor.fail_and_hold(&job, 1200, answer as Answer).await;
    browser.shows("#held-1", "The machine is kept on exec-7 for another").await;
    assert!(browser.is_same_page().await, "it came without loading the page again");
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.console().await;
    let page = open_terminal(browser, &job).await;
    type_keys(browser, "echo hello\n").await;
    browser.shows(".xterm-rows", "said hello").await;
    // The styles are there although the policy forbids to write them into the page.
    let styled = "return getComputedStyle(document.querySelector('.xterm-rows span')).display;";
    assert_eq!(browser.run(styled, vec![]).await, json!("inline-block"));
    browser.resize(900, 700).await;
    browser.shows(".xterm-rows", "[size ").await;
    type_keys(browser, "attack\n").await;
    browser.shows(".xterm-rows", "true colour").await;
    let color = "return [...document.querySelectorAll('.xterm-rows span')] \
                 .some((span) => getComputedStyle(span).color === 'rgb(12, 34, 56)');";
    assert_eq!(browser.run(color, vec![]).await, json!(true));
    assert_eq!(browser.console().await, Vec::<String>::new(), "nothing was refused");

    type_keys(browser, "exit\n").await;
    browser.shows("#terminal-state", "exit 0").await;
    browser.open(&format!("/jobs/{id}")).await;
    browser.shows("#terminals", "exit 0").await;
    browser.shows("#terminals", "admin").await;
    browser.open(&page).await;
    browser.shows(".xterm-rows", "said hello").await;
    browser.shows("#terminal-state", "exit 0").await;
    let fetch = "return fetch(arguments[0] + '/recording').then((answer) => answer.text());";
    let cast = browser.run(fetch, vec![json!(page)]).await;
    let cast = cast.as_str().expect("a text");
    assert!(cast.starts_with("{\"height\":24,") && cast.contains("said hello\\r\\n"), "{cast}");
    assert!(cast.contains(",\"i\",\"e") && cast.contains(",\"r\",\""), "{cast}");

    browser.open(&format!("/jobs/{id}")).await;
    browser.press("Release").await;
    browser.shows(".flash", "goes within a few seconds").await;
    until_true("the machine has gone", PATIENCE, async || browser.count("#held-1").await == 0)
        .await;
    let job = site.api.get(&format!("/jobs/{id}")).await;
    assert_eq!(job["hold"]["machines"][0]["end"], "released", "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_goes_on_when_its_instance_was_restarted() {
    let Some(mut site) = Site::start().await else { return };
    let (_executor, job, _held) = held(&site, "exec-7").await;
    open_terminal(&site.browser, &job).await;
    type_keys(&site.browser, "echo one\n").await;
    site.browser.shows(".xterm-rows", "said one").await;
    site.browser.mark().await;

    site.instance.program().kill();
    type_keys(&site.browser, "echo two\n").await;
    site.browser.shows("#terminal-state", "connection lost").await;
    site.instance.start_again().await;
    site.browser.shows(".xterm-rows", "said two").await;
    site.browser.shows("#terminal-state", "open").await;
    type_keys(&site.browser, "echo three\n").await;
    site.browser.shows(".xterm-rows", "said three").await;
    assert!(site.browser.is_same_page().await, "nobody had to load the page again");
    let rows = site.browser.text(".xterm-rows").await;
    for word in ["one", "two", "three"] {
        let (typed, said) = (format!("echo {word}"), format!("said {word}"));
        let count = |text: &str| rows.matches(text).count();
        assert_eq!((count(&typed), count(&said)), (1, 1), "typed and printed once: {rows}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_output_changes_nothing_outside_the_terminal() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let (_executor, job, _held) = held(&site, "exec-7").await;
    let page = open_terminal(browser, &job).await;
    browser.watch_policy().await;
    browser.mark().await;
    // Whoever writes to the clipboard or opens a window is noticed.
    browser
        .run(
            "window.touched = []; window.open = (to) => { touched.push('open ' + to); }; \
             window.confirm = (text) => { touched.push('confirm ' + text); return true; }; \
             document.execCommand = (verb) => { touched.push(verb); return true; }; \
             if (navigator.clipboard) navigator.clipboard.writeText = async (text) => { \
               touched.push('clipboard ' + text); };",
            vec![],
        )
        .await;
    let look = "const box = document.querySelector('.term'); const parts = document.querySelectorAll('main > *'); \
                return [document.title, location.href, window.pwned ?? null, window.touched, \
                  document.querySelectorAll('#terminal a, #terminal img, #terminal script').length, \
                  parts.length, box.offsetWidth, box.offsetHeight];";
    let before = browser.run(look, vec![]).await;
    assert_eq!(before[2], json!(null));
    type_keys(browser, "attack\n").await;
    browser.shows(".xterm-rows", "<img src=x onerror").await;
    browser.shows(".xterm-rows", "a link").await;
    let link = "const row = [...document.querySelectorAll('.xterm-rows > div')].find((row) => row.innerText.includes('a link')); \
                const box = row.getBoundingClientRect(); \
                for (const kind of ['mousemove', 'mousedown', 'mouseup', 'click']) \
                  row.dispatchEvent(new MouseEvent(kind, { bubbles: true, clientX: box.x + 15, clientY: box.y + 5 }));";
    browser.run(link, vec![]).await;
    while_true("the page is as before", Duration::from_secs(1), async || {
        browser.run(look, vec![]).await == before
    })
    .await;
    assert!(browser.is_same_page().await);
    assert_eq!(browser.path().await, page);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    type_keys(browser, "echo still here\n").await;
    browser.shows(".xterm-rows", "said still here").await;
}

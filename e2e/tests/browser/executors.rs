//! Maintenance › Executors, live.

use std::time::Duration;

use e2e::wait::until_true;
use serde_json::json;

use crate::browser::PATIENCE;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_appears_by_itself_and_can_be_drained() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    browser.open("/site-admin/executors").await;
    browser.watch_policy().await;
    browser.mark().await;
    browser.shows("#executors", "No executor has connected yet").await;

    let executor = site.executor("build-farm-01").await;
    browser.shows("#executors", "build-farm-01").await;
    browser.shows("#executors article", "Active").await;

    let job = site.api.submit(&hello()).await;
    let taken = executor.dequeue(Duration::from_secs(5)).await.expect("a job waits");
    assert_eq!(taken.id, job.id);
    browser.shows("#executors article .facts", &format!("#{}", job.id)).await;
    assert!(browser.is_same_page().await, "it all came without loading the page again");
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.press("Drain").await;
    browser.shows(".flash", "Drain requested").await;
    browser.shows("#executors article", "Draining").await;
    assert_eq!(site.api.executors().await[0]["draining"], true);
    browser.press("Undrain").await;
    browser.shows(".flash", "may take jobs again").await;
    assert_eq!(site.api.executors().await[0]["draining"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn details_that_were_opened_stay_open() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let executor = site.executor("exec-7").await;
    browser.open("/site-admin/executors").await;
    browser.click("details.more > summary").await;
    let opened = async || browser.count("details.more[open]").await == 1;
    until_true("the details are open", PATIENCE, opened).await;

    let seen = browser.run("return document.querySelector('time').dateTime;", vec![]).await;
    executor.beat(&[]).await;
    until_true("the next heartbeat is on the page", PATIENCE, async || {
        browser.run("return document.querySelector('time').dateTime;", vec![]).await != seen
    })
    .await;
    assert!(opened().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_can_be_searched() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    let (_one, _two) = (site.executor("alpha").await, site.executor("beta").await);
    browser.open("/site-admin/executors").await;
    assert_eq!(browser.count("#executors article").await, 2);
    browser.type_into("#q", "ALP").await;
    browser.press("Filter").await;
    until_true("one is left", PATIENCE, async || browser.count("#executors article").await == 1)
        .await;
    browser.shows("#executors", "alpha").await;
    browser.open("/site-admin/executors?q=gamma").await;
    browser.shows("#executors", "No executor matches").await;
}

/// A small job file.
pub fn hello() -> serde_json::Value {
    json!({
        "name": "say hello",
        "steps": [{ "name": "hello", "image": "alpine:3.20", "run": "echo hello" }],
    })
}

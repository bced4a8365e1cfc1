//! Maintenance › Site configuration.

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_shows_its_place_and_a_secret_is_never_shown() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    browser.open("/site-admin/configuration").await;
    let text = browser.value("#text").await;
    assert!(text.contains("REDACTED"), "{text}");
    assert!(!text.contains(&site.instance.access_token));

    let last = text.rfind('}').expect("an object");
    let before = text[..last].trim_end().trim_end_matches(',');
    let with = |line: &str| format!("{before},\n  {line}\n}}\n");
    let bad = with("\"jobs.retentionDay\": 7");
    let line = before.lines().count() + 1;
    browser.fill("#text", &bad).await;
    browser.press("Save").await;
    browser.shows("#problems", &format!("line {line}, column 3")).await;
    browser.shows("#problems", "jobs.retentionDay").await;
    assert_eq!(browser.value("#text").await.trim_end(), bad.trim_end(), "what was typed is kept");
    assert_eq!(browser.text(".gutter .bad").await.trim(), line.to_string());

    browser.fill("#text", &with("\"limits.artifactsPerJob\": 7")).await;
    browser.press("Save").await;
    browser.shows(".flash", "Saved").await;
    assert!(browser.value("#text").await.contains("\"limits.artifactsPerJob\": 7"));

    // The secret that was shown as REDACTED still lets executors in.
    site.executor("exec-7").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_editors_do_not_overwrite_each_other() {
    let Some(site) = Site::start().await else { return };
    let browser = &site.browser;
    browser.open("/site-admin/configuration").await;
    let mine = browser.value("#text").await.replacen('{', "{ // mine", 1);
    let theirs = mine.replace("// mine", "// theirs");
    // Somebody else saves while the form is open here.
    browser
        .run(
            "const form = new FormData(document.querySelector('main form')); \
             form.set('text', arguments[0]); \
             return fetch('/site-admin/configuration', { method: 'POST', \
             body: new URLSearchParams(form) }).then((answer) => answer.status);",
            vec![serde_json::json!(theirs)],
        )
        .await;
    browser.fill("#text", &mine).await;
    browser.press("Save").await;
    browser.shows("main", "Somebody else saved the configuration meanwhile").await;
    assert!(browser.value("#text").await.contains("// mine"), "what was typed is kept");
    browser.press("Save").await;
    browser.shows(".flash", "Saved").await;
    assert!(browser.value("#text").await.contains("// mine"));
}

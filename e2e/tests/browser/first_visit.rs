//! First set-up, log-out, log-in.

use e2e::folder::Folder;

use crate::browser::Browser;
use crate::site::{fresh_instance, log_in};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_visitor_becomes_the_site_admin_and_can_come_back() {
    let folder = Folder::new();
    let (_instance, url) = fresh_instance(folder.path()).await;
    let Some(browser) = Browser::start(folder.path(), &url).await else { return };

    browser.open("/").await;
    browser.arrives("/setup").await;
    browser.type_into("#username", "ada").await;
    browser.type_into("#password", "short").await;
    browser.type_into("#repeat", "short").await;
    browser.press("Create account").await;
    browser.shows("#password-bad", "at least 10 characters").await;
    assert_eq!(browser.value("#username").await, "ada", "what was typed is kept");
    assert_eq!(browser.value("#password").await, "", "a password is never sent back");

    let password = "correct horse battery";
    browser.type_into("#password", password).await;
    browser.type_into("#repeat", password).await;
    browser.press("Create account").await;
    browser.arrives("/site-admin/executors").await;
    browser.shows("#executors", "No executor has connected yet").await;
    browser.shows("#executors pre", "executor run").await;

    browser.press("Log out").await;
    browser.arrives("/login").await;
    browser.open("/site-admin/users").await;
    browser.arrives("/login").await;
    browser.type_into("#username", "ada").await;
    browser.type_into("#password", "wrong password").await;
    browser.press("Log in").await;
    browser.shows("[role=alert]", "Wrong name or password").await;
    browser.type_into("#password", password).await;
    browser.press("Log in").await;
    browser.arrives("/site-admin/users").await;

    // There is no second first visit.
    browser.open("/setup").await;
    assert_ne!(browser.path().await, "/setup");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_token_is_shown_once_and_can_be_revoked() {
    let Some(site) = crate::site::Site::start().await else { return };
    let browser = &site.browser;

    browser.open("/account").await;
    browser.type_into("#token-name", "laptop").await;
    browser.press("Create token").await;
    browser.shows("#new-token", "exec_").await;
    let token = browser.text("#new-token").await;
    let api = e2e::api::Api::new(&site.instance.url(), &token);
    assert!(api.executors().await.is_empty(), "the token works");

    browser.open("/account").await;
    assert_eq!(browser.count("#new-token").await, 0, "shown once");
    browser.press("Revoke").await;
    browser.shows(".flash", "Token revoked").await;
    let refused = api.send(reqwest::Method::GET, "/executors", None).await.expect("an answer");
    assert_eq!(refused.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_no_maintenance() {
    let Some(site) = crate::site::Site::start().await else { return };
    let browser = &site.browser;

    browser.open("/site-admin/users").await;
    browser.type_into("#username", "grace").await;
    browser.type_into("#password", "another good password").await;
    browser.press("Add user").await;
    browser.shows("main", "grace").await;
    browser.press("Log out").await;
    browser.arrives("/login").await;

    log_in(browser, ("grace", "another good password")).await;
    browser.arrives("/jobs").await;
    assert!(!browser.text(".nav").await.to_lowercase().contains("maintenance"));
    for page in ["executors", "repositories", "configuration", "users", "images"] {
        browser.open(&format!("/site-admin/{page}")).await;
        browser.shows("main", "403").await;
    }
    browser.open("/no-such-page").await;
    browser.shows("main", "404").await;
}

//! Holds and terminals as site admins use them: the API, and what the pages send.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::StreamExt as _;
use instance::accounts;
use protocol::hold::HoldEnd;
use reqwest::Method;
use serde_json::json;
use store::{NewSession, Stream, TerminalAppend, TerminalEnd};

use super::jobs::FILE;
use super::people::PASSWORD;
use crate::support::{Answer, Instance, PATIENCE};

/// Somebody's browser.
pub struct Browser<'a> {
    instance: &'a Instance,
    session: NewSession,
}

impl Instance {
    pub async fn browser(&self, name: &str) -> Browser<'_> {
        let session = accounts::log_in(&self.app, name, PASSWORD, None).await.unwrap();
        Browser { instance: self, session }
    }

    /// A failed job of `bob` whose machine is kept for ten minutes.
    pub async fn held_job(&self, bob: &super::people::Person) -> i64 {
        let job = bob.submit(self, FILE).await;
        self.run().await.fails_and_holds(600_000).await;
        job
    }

    async fn audited(&self) -> Vec<(String, String, String)> {
        let lines = self.app.store.audit_log(None, 100).await.unwrap();
        let about = |action: &str| action.starts_with("job.") || action.starts_with("terminal.");
        let lines = lines.into_iter().rev().filter(|line| about(&line.action));
        lines.map(|line| (line.actor, line.action, line.detail)).collect()
    }
}

impl Browser<'_> {
    pub async fn get(&self, path: &str) -> Answer {
        let cookie = format!("executors_session={}", self.session.token.expose());
        self.instance.call(Method::GET, path, &[("cookie", &cookie)], "").await
    }

    /// What a script of ours sends.
    pub async fn send(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let cookie = format!("executors_session={}", self.session.token.expose());
        let headers = [
            ("cookie", cookie.as_str()),
            ("sec-fetch-site", "same-origin"),
            ("x-csrf-token", self.session.csrf_secret.as_str()),
        ];
        self.instance.call(Method::POST, path, &headers, body).await
    }

    /// A form of one of our pages.
    pub async fn form(&self, path: &str, fields: &str) -> Answer {
        self.forged(path, &format!("{fields}&csrf={}", self.session.csrf_secret)).await
    }

    /// The same without the token of the session.
    pub async fn forged(&self, path: &str, fields: &str) -> Answer {
        let cookie = format!("executors_session={}", self.session.token.expose());
        let headers = [
            ("cookie", cookie.as_str()),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.instance.call(Method::POST, path, &headers, fields.to_owned()).await
    }

    /// Opens a terminal to the machine of the first attempt.
    pub async fn open_terminal(&self, job: i64) -> (i64, String) {
        let answer = self.form(&format!("/jobs/{job}/terminal"), "attempt=1").await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        let page = answer.header("location").to_owned();
        let id = page.rsplit('/').next().and_then(|id| id.parse().ok()).expect("a terminal's page");
        (id, page)
    }
}

#[tokio::test]
async fn a_wish_is_made_changed_taken_back_and_limited() {
    let instance = Instance::start().await;
    let (ada, bob) = (instance.ada().await, instance.user("bob").await);
    let job = bob.submit(&instance, FILE).await;
    let path = format!("/jobs/{job}/hold");
    let hold = async |seconds: serde_json::Value| {
        ada.json(&instance, Method::POST, &path, json!({ "seconds": seconds })).await
    };
    assert_eq!(ada.get(&instance, &format!("/jobs/{job}")).await.json().get("hold"), None);
    let answer = hold(json!(1800)).await;
    assert_eq!((answer.status, &answer.json()["hold"]["seconds"]), (200, &json!(1800)));
    assert_eq!(hold(json!(60)).await.json()["hold"]["seconds"], 60);
    hold(json!(3601)).await.says(400, "at most 3600 (1h, executors.maximumHold)");
    for bad in [json!(-1), json!("1h"), json!(null), json!(1.5)] {
        assert_eq!(hold(bad).await.status, 400);
    }
    assert_eq!(ada.delete(&instance, &path).await.json().get("hold"), None);
    assert_eq!(ada.delete(&instance, &path).await.status, 200, "twice");
    assert_eq!(ada.delete(&instance, "/jobs/999/hold").await.status, 404);
    let missing = ada.json(&instance, Method::POST, "/jobs/999/hold", json!({"seconds": 1})).await;
    assert_eq!(missing.status, 404);
    ada.json(&instance, Method::POST, &path, json!({ "seconds": 60 })).await;
    instance.run().await.fails(1).await;
    let page = instance.browser("ada").await.get(&format!("/jobs/{job}")).await;
    page.says(200, "not kept by its executor");
    hold(json!(60)).await.says(409, "is failed already");
    instance.configure("{ \"executors.maximumHold\": \"0\" }");
    hold(json!(60)).await.says(400, "executors.maximumHold forbids holds on this site");
    let actions: Vec<_> = instance
        .audited()
        .await
        .into_iter()
        .map(|(who, what, detail)| {
            assert_eq!(who, "user:ada");
            format!("{what} {detail}")
        })
        .collect();
    assert_eq!(actions, ["job.hold 1800 s", "job.hold 60 s", "job.hold 0 s", "job.hold 60 s"]);
}

#[tokio::test]
async fn a_job_file_may_ask_for_it_and_everybody_sees_what_became_of_it() {
    let instance = Instance::start().await;
    let (ada, bob, eve) =
        (instance.ada().await, instance.user("bob").await, instance.user("eve").await);
    let file = format!("{}\non_failure: hold 2h\n", FILE.trim_end());
    let refused = bob.send(&instance, Method::POST, "/jobs", &[], file.clone()).await;
    refused.says(400, "on_failure: must hold from 1s to 1h (executors.maximumHold of this site)");
    let job = bob.submit(&instance, &file.replace("2h", "30m")).await;
    instance.run().await.fails_and_holds(1_800_000).await;
    let show = async || eve.get(&instance, &format!("/jobs/{job}")).await.json()["hold"].clone();
    let hold = show().await;
    assert_eq!(hold["seconds"], 1800);
    let machine = &hold["machines"][0];
    assert_eq!((&machine["attempt"], &machine["executor"]), (&json!(1), &json!("exec-1")));
    assert_eq!((machine.get("endedAt"), machine.get("releasedBy")), (None, None));

    let released = ada.delete(&instance, &format!("/jobs/{job}/hold")).await.json();
    assert_eq!(released["hold"]["machines"][0]["releasedBy"], "ada");
    let now = instance.clock.now_ms();
    instance.app.store.end_hold(job, 1, HoldEnd::Released, now).await.unwrap();
    let page = instance.browser("eve").await.get(&format!("/jobs/{job}")).await;
    page.says(200, "released by ada");
    assert!(!page.text().contains("The machine is kept"));
    let machine = show().await["machines"][0].clone();
    assert_eq!((&machine["end"], machine["endedAt"].is_string()), (&json!("released"), true));
    let audited = instance.audited().await;
    let last = ("user:ada".to_owned(), "job.release".to_owned(), "attempt 1 on exec-1".to_owned());
    assert_eq!(audited.last(), Some(&last));
}

#[tokio::test]
async fn the_page_of_a_job_leads_to_its_machine() {
    let instance = Instance::start().await;
    instance.ada().await;
    let bob = instance.user("bob").await;
    let (admin, owner) = (instance.browser("ada").await, instance.browser("bob").await);
    let job = bob.submit(&instance, FILE).await;
    let page = format!("/jobs/{job}");
    admin.get(&page).await.says(200, "Hold if it fails");
    assert!(!owner.get(&page).await.text().contains("Hold if it fails"));
    let went = admin.form(&format!("{page}/hold"), "minutes=10").await;
    assert_eq!((went.status, went.header("location")), (303, page.as_str()));
    admin.get(&page).await.says(200, "Kept 10 min if it fails");
    admin.form(&format!("{page}/hold"), "minutes=61").await.says(400, "Minutes: must be at most");
    instance.run().await.fails_and_holds(600_000).await;
    admin.get(&page).await.says(200, "Open terminal");
    let seen = owner.get(&page).await;
    seen.says(200, "The machine is kept</b> on exec-1");
    assert!(!seen.text().contains("Open terminal") && !seen.text().contains("Release"));

    let (id, terminal) = admin.open_terminal(job).await;
    let shown = admin.get(&page).await;
    shown.says(200, &format!("terminal {id} (ada)"));
    assert!(!owner.get(&page).await.text().contains(&terminal));
    admin.get(&terminal).await.says(200, "data-writable");
    let beat = protocol::HeartbeatRequest {
        executor_name: "exec-1".to_owned(),
        ..protocol::HeartbeatRequest::default()
    };
    let (queues, now) = (["jobs".to_owned()], instance.clock.now_ms());
    instance.app.store.executor_heartbeat(&beat, &queues, false, now).await.unwrap();
    admin.get("/site-admin/executors").await.says(200, "keeps the machine of");
    let executors = bob.get(&instance, "/executors").await.json();
    assert_eq!(executors["executors"][0]["held"], json!([job]));
    for _ in 0..3 {
        admin.open_terminal(job).await;
    }
    let fifth = admin.form(&format!("{page}/terminal"), "attempt=1").await;
    fifth.says(409, "4 terminals are open already; close one");
    let closed = admin.form(&format!("{terminal}/close"), "").await;
    assert_eq!((closed.status, closed.header("location")), (303, page.as_str()));
    assert_eq!(admin.form(&format!("{terminal}/close"), "").await.status, 303, "twice");
    let again = admin.get(&terminal).await;
    assert!(!again.text().contains("data-writable") && again.text().contains("Recording"));
    for other in [format!("/jobs/{job}/terminal/999"), format!("/jobs/999/terminal/{id}")] {
        assert_eq!(admin.get(&other).await.status, 404, "{other}");
    }
    admin.form(&format!("{page}/release"), "attempt=1").await;
    admin.form(&format!("{page}/terminal"), "attempt=1").await.says(409, "is not kept any more");
    let actions: Vec<_> =
        instance.audited().await.into_iter().map(|(_, what, detail)| (what, detail)).collect();
    let line = |what: &str, detail: String| (what.to_owned(), detail);
    assert_eq!(actions[0], line("job.hold", "600 s".into()));
    assert_eq!(actions[1], line("terminal.open", format!("terminal {id}, attempt 1")));
    assert_eq!(actions[5], line("terminal.close", format!("terminal {id}")));
    assert_eq!(actions[6], line("job.release", "attempt 1 on exec-1".into()));
    assert_eq!(actions.len(), 7, "what was done twice is written down once: {actions:?}");
}

#[tokio::test]
async fn typing_is_for_the_one_who_opened_it_and_is_never_repeated() {
    let instance = Instance::start().await;
    instance.ada().await;
    let bob = instance.user("bob").await;
    let job = instance.held_job(&bob).await;
    let admin = instance.browser("ada").await;
    let carol = instance.user("carol").await.name;
    let row = instance.app.store.user_by_name(carol).await.unwrap().unwrap();
    instance.app.store.set_role(row.id, store::Role::SiteAdmin).await.unwrap();
    let watcher = instance.browser("carol").await;
    let (id, page) = admin.open_terminal(job).await;
    let at = |offset: u64| format!("{page}/input?offset={offset}");
    admin.send(&at(0), "ls").await.is(200, "2");
    admin.send(&at(0), "ls\r").await.is(200, "3");
    admin.send(&at(0), "ls\r").await.is(200, "3");
    admin.send(&at(1), "x").await.is(409, "3");
    admin.send(&at(9), "x").await.is(409, "3");
    assert_eq!(admin.send(&format!("{page}/input"), "x").await.status, 400);
    assert_eq!(admin.send(&at(3), vec![b'x'; (64 << 10) + 1]).await.status, 413);
    assert_eq!(admin.send(&format!("{page}/size?cols=100&rows=30"), "").await.status, 204);
    for bad in ["cols=0&rows=1", "cols=1&rows=1001", "cols=70000&rows=1", "cols=x", ""] {
        assert_eq!(admin.send(&format!("{page}/size?{bad}"), "").await.status, 400, "{bad}");
    }
    watcher.get(&page).await.says(200, "only ada types here");
    watcher.send(&at(3), "x").await.says(403, "Only ada may type here");
    assert_eq!(watcher.send(&format!("{page}/size?cols=1&rows=1"), "").await.status, 403);
    assert_eq!(watcher.form(&format!("{page}/close"), "").await.status, 303, "anyone may close");
    assert_eq!(admin.send(&at(3), "x").await.status, 410);
    assert_eq!(admin.send(&format!("{page}/size?cols=9&rows=9"), "").await.status, 410);
    let terminal = instance.app.store.terminal(id).await.unwrap().unwrap();
    assert_eq!((terminal.cols, terminal.rows, terminal.input_size), (100, 30, 3));
    assert_eq!(terminal.end, Some(TerminalEnd::Closed));
}

#[tokio::test]
async fn output_streams_from_any_offset_until_the_end() {
    let instance = Arc::new(Instance::start().await);
    instance.ada().await;
    let bob = instance.user("bob").await;
    let job = instance.held_job(&bob).await;
    let admin = instance.browser("ada").await;
    let (id, page) = admin.open_terminal(job).await;
    let print = async |offset: u64, data: &[u8], exit_code: Option<i64>| {
        let append = TerminalAppend { stream: Stream::Output, offset, data, exit_code };
        instance.app.store.append_terminal(id, &append, 0).await.unwrap();
    };
    print(0, b"$ \xe2\x82", None).await;
    let cookie = format!("executors_session={}", admin.session.token.expose());
    let url = format!("{}{page}/stream?from=0", instance.url);
    let response = instance.http.get(url).header("cookie", cookie).send().await.unwrap();
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    let mut wait_for = async |part: &str| {
        while !text.contains(part) {
            let next = tokio::time::timeout(PATIENCE, stream.next()).await;
            let bytes = next.expect("an event in time").expect("the stream goes on").unwrap();
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        text.clone()
    };
    wait_for("event: size\ndata: 80x24\n\n").await;
    wait_for(&format!("event: output\nid: 4\ndata: {}\n\n", BASE64.encode(b"$ \xe2\x82"))).await;
    print(4, b"\xac", None).await;
    wait_for(&format!("event: output\nid: 5\ndata: {}\n\n", BASE64.encode(b"\xac"))).await;
    instance.app.store.resize_terminal(id, 90, 20, 0).await.unwrap();
    wait_for("event: size\ndata: 90x20\n\n").await;
    print(5, b"", Some(3)).await;
    wait_for("event: end\ndata: exit 3\n\n").await;
    // Taken up again where it was.
    let rest = admin.get(&format!("{page}/stream?from=0&resume=4")).await;
    rest.says(200, &format!("id: 5\ndata: {}\n\n", BASE64.encode(b"\xac")));
    assert!(!rest.text().contains("id: 4"));
    assert_eq!(admin.get(&format!("{page}/stream?from=x")).await.status, 400);
    assert_eq!(admin.get(&format!("{page}/stream?from=99")).await.status, 200);

    let cast = admin.get(&format!("{page}/recording")).await;
    assert_eq!(cast.header("content-type"), "application/x-asciicast");
    let name = format!("attachment; filename=\"job-{job}-terminal-{id}.cast\"");
    assert_eq!(cast.header("content-disposition"), name);
    let cast = cast.text();
    let lines: Vec<&str> = cast.lines().collect();
    assert!(lines[0].contains("\"width\":80") && lines[0].contains("\"version\":2"), "{cast}");
    assert_eq!(lines.len(), 4, "{cast}");
    assert!(lines[1].ends_with(",\"o\",\"$ \"]") && lines[2].ends_with(",\"o\",\"€\"]"), "{cast}");
    assert!(lines[3].ends_with(",\"r\",\"90x20\"]"), "{cast}");
}

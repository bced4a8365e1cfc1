//! Repositories and revisions.

use std::process::Command;

use reqwest::Method;
use serde_json::json;

use crate::support::{Instance, until};

fn git(dir: &std::path::Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    let output = Command::new("git").arg("-C").arg(dir).args(identity).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_job_runs_the_commit_that_its_revision_had_at_submit() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    git(dir.path(), &["commit", "-q", "--allow-empty", "-m", "one"]);
    let first = git(dir.path(), &["rev-parse", "HEAD"]);
    let url = dir.path().to_str().unwrap();
    let new = json!({ "name": "example/app", "url": url });
    let added = ada.json(&instance, Method::POST, "/repositories", new).await;
    assert_eq!((added.status, added.json()["state"].as_str()), (201, Some("cloning")));
    let look = async || ada.get(&instance, "/repositories/example%2Fapp").await.json();
    until("the first fetch", async || look().await["state"] == "ready").await;
    let ready = look().await;
    assert_eq!(ready["defaultBranch"], "main");

    let file = "repository: example/app\nsteps: [{image: a, run: x}]\n";
    let id = ada.submit(&instance, file).await;
    assert_eq!(ada.get(&instance, &format!("/jobs/{id}")).await.json()["commit"], first);
    // A commit that the mirror does not have yet is fetched.
    git(dir.path(), &["commit", "-q", "--allow-empty", "-m", "two"]);
    let second = git(dir.path(), &["rev-parse", "HEAD"]);
    let path = format!("/jobs?revision={second}");
    let answer = ada.send(&instance, Method::POST, &path, &[], file).await;
    let id = answer.json()["id"].as_i64().unwrap();
    assert_eq!(ada.get(&instance, &format!("/jobs/{id}")).await.json()["commit"], second);
    let missing = ada.send(&instance, Method::POST, "/jobs?revision=nope", &[], file).await;
    missing.says(400, "\"field\":\"revision\"");

    let clash = json!({ "name": "example/app", "url": "https://x.example/a.git" });
    ada.json(&instance, Method::POST, "/repositories", clash).await.says(409, "exists already");
    assert_eq!(ada.delete(&instance, "/repositories/example%2Fapp").await.status, 204);
    ada.get(&instance, "/repositories/example%2Fapp").await.says(404, "repository not found");
    assert!(!instance.data_dir().join("repos/1.git").exists());
}

#[tokio::test]
async fn bad_names_and_urls_are_refused_and_credentials_not_shown() {
    let instance = Instance::start().await;
    let (ada, bob) = (instance.ada().await, instance.user("bob").await);
    for (new, field) in [
        (json!({ "name": "../x", "url": "https://x.example/a" }), "name"),
        (json!({ "name": "x", "url": "ext::sh -c id" }), "url"),
        (json!({ "name": "x", "url": "--upload-pack=id" }), "url"),
        (json!({ "name": "x", "url": "relative/path" }), "url"),
    ] {
        let answer = ada.json(&instance, Method::POST, "/repositories", new.clone()).await;
        let error = answer.json();
        assert_eq!((answer.status, error["error"]["field"].as_str()), (400, Some(field)), "{new}");
    }
    let secret = json!({ "name": "x", "url": "http://u:hunter2@127.0.0.1:1/a.git" });
    let added = ada.json(&instance, Method::POST, "/repositories", secret).await;
    assert_eq!(added.status, 201);
    assert!(!added.text().contains("hunter2"), "{}", added.text());
    assert!(!bob.get(&instance, "/repositories").await.text().contains("hunter2"));
    let log = instance.app.store.audit_log(None, 10).await.unwrap();
    assert!(log.iter().all(|line| !line.detail.contains("hunter2")));
}

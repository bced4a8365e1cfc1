//! Git over smart HTTP, with the real git program as the client.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use instance::loops::repositories::Syncs;
use reqwest::Method;
use store::{NewRepository, RepositoryState};

use crate::scripted::Held;
use crate::support::{Instance, until};

const NAME: &str = "git.example/acme/app";

fn git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "protocol.version=2", "-c", "init.defaultBranch=trunk"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@example.com")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A repository with two commits on `trunk` and one on a branch that is deleted again.
struct Upstream {
    dir: tempfile::TempDir,
    head: String,
}

impl Upstream {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        git(path, &["init", "--quiet"]).unwrap();
        for n in 0..2 {
            std::fs::write(path.join("file.txt"), format!("{n}\n")).unwrap();
            git(path, &["add", "."]).unwrap();
            git(path, &["commit", "--quiet", "-m", &n.to_string()]).unwrap();
        }
        git(path, &["tag", "v1"]).unwrap();
        let head = git(path, &["rev-parse", "HEAD"]).unwrap();
        Self { dir, head }
    }
}

async fn register(instance: &Instance, upstream: &Upstream) {
    let upstream = upstream.dir.path().to_str().unwrap().to_owned();
    let new = NewRepository { name: NAME.into(), upstream, ..NewRepository::default() };
    instance.app.store.add_repository(&new, 0).await.unwrap();
    sync(instance).await;
}

async fn sync(instance: &Instance) {
    // The instance's own loop may be at it already.
    let fetched = async || {
        let mut syncs = Syncs::default();
        syncs.tick(&instance.app, instance.clock.now_ms()).await.unwrap();
        syncs.finished().await;
        let row = instance.app.store.repository(NAME).await.unwrap().unwrap();
        assert_ne!(row.state, RepositoryState::Error, "{}", row.error);
        row.state == RepositoryState::Ready
    };
    until("the first fetch", fetched).await;
}

/// Clones with a held job's headers.
fn clone(instance: &Instance, held: &Held, args: &[&str]) -> Result<PathBuf, String> {
    let dir = tempfile::tempdir().unwrap().keep();
    let headers = [
        format!("http.extraHeader=Authorization: Bearer {}", held.token),
        format!("http.extraHeader=X-Sourcegraph-Job-ID: {}", held.id),
        "http.extraHeader=X-Sourcegraph-Executor-Name: exec-7".to_owned(),
    ];
    let url = format!("{}/.executors/git/{NAME}", instance.url);
    let mut all = Vec::new();
    for header in &headers {
        all.extend(["-c", header.as_str()]);
    }
    all.extend(["clone", "--quiet"]);
    all.extend(args);
    all.extend([url.as_str(), "."]);
    git(&dir, &all).map(|_| dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_repository_is_cloned_whole_shallow_and_partly() {
    let instance = Instance::start().await;
    let upstream = Upstream::new();
    register(&instance, &upstream).await;
    let held = instance.held("batches", NAME).await;
    let whole = clone(&instance, &held, &[]).unwrap();
    assert_eq!(git(&whole, &["rev-parse", "HEAD"]).unwrap(), upstream.head);
    assert_eq!(git(&whole, &["branch", "--show-current"]).unwrap(), "trunk");
    assert_eq!(git(&whole, &["tag"]).unwrap(), "v1");
    let shallow = clone(&instance, &held, &["--depth=1"]).unwrap();
    assert_eq!(git(&shallow, &["rev-list", "--count", "HEAD"]).unwrap(), "1");
    let partial = clone(&instance, &held, &["--filter=blob:none", "--no-checkout"]).unwrap();
    let missing = git(&partial, &["rev-list", "--objects", "--missing=print", "HEAD"]).unwrap();
    assert!(missing.lines().any(|l| l.starts_with('?')), "{missing}");
    for dir in [whole, shallow, partial] {
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_have_the_form_of_the_original() {
    let instance = Instance::start().await;
    let upstream = Upstream::new();
    register(&instance, &upstream).await;
    let held = instance.held("batches", NAME).await;
    let path = |rest: &str| format!("/.executors/git/{NAME}/{rest}");
    for service in ["info/refs?service=git-upload-pack", "info/refs"] {
        let answer = instance.with_token(Method::GET, &held, &path(service), "").await;
        assert_eq!(answer.status, 200);
        let kind = "application/x-git-upload-pack-advertisement";
        assert_eq!(answer.header("content-type"), kind);
        assert!(answer.body.starts_with(b"001e# service=git-upload-pack\n0000"));
        assert!(answer.text().contains("refs/heads/trunk") && answer.text().contains("filter"));
        assert!(!answer.text().contains("refs/mirror"));
    }
    let push = path("info/refs?service=git-receive-pack");
    let answer = instance.with_token(Method::GET, &held, &push, "").await;
    answer.is(400, "only support service git-upload-pack\n");
    let (authorization, id) = (format!("Bearer {}", held.token), held.id.to_string());
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-sourcegraph-job-id", &id),
        ("x-sourcegraph-executor-name", "exec-7"),
        ("content-encoding", "gzip"),
    ];
    let post = path("git-upload-pack");
    let answer = instance.call(Method::POST, &post, &headers, "not gzip").await;
    answer.is(400, "malformed payload: gzip: invalid header\n");
    let request = gzip(b"0014command=ls-refs\n00010009peel\n0000");
    let mut headers = headers.to_vec();
    headers.push(("git-protocol", "version=2"));
    let answer = instance.call(Method::POST, &post, &headers, request).await;
    assert_eq!(answer.header("content-type"), "application/x-git-upload-pack-result");
    assert!(answer.text().contains(&format!("{} refs/heads/trunk", upstream.head)));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let instance = Instance::start().await;
    let new =
        NewRepository { name: "empty".into(), upstream: "/nope".into(), ..Default::default() };
    instance.app.store.add_repository(&new, 0).await.unwrap();
    for name in ["empty", "unregistered"] {
        let held = instance.held("batches", name).await;
        let path = format!("/.executors/git/{name}/info/refs?service=git-upload-pack");
        let answer = instance.with_token(Method::GET, &held, &path, "").await;
        answer.is(404, "repository not found\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_follows_the_remote_and_resolves_revisions() {
    let instance = Instance::start().await;
    let upstream = Upstream::new();
    register(&instance, &upstream).await;
    let row = instance.app.store.repository(NAME).await.unwrap().unwrap();
    assert_eq!(row.default_branch, "trunk");
    assert!(row.size_bytes > 0);
    let resolve = async |revision: &str| instance.app.git.resolve(row.id, revision).await;
    for revision in ["", "trunk", "v1", "HEAD", &upstream.head, &upstream.head[..10]] {
        assert_eq!(resolve(revision).await.unwrap(), upstream.head, "{revision}");
    }
    for bad in ["nope", "--help", "trunk..v1", ":/0", "a b", "HEAD@{1}"] {
        assert!(resolve(bad).await.is_err(), "{bad}");
    }
    let dir = upstream.dir.path();
    git(dir, &["checkout", "--quiet", "-b", "feature"]).unwrap();
    git(dir, &["commit", "--quiet", "--allow-empty", "-m", "f"]).unwrap();
    let feature = git(dir, &["rev-parse", "HEAD"]).unwrap();
    // What the mirror does not know is looked for once.
    let found = instance::git::resolve(&instance.app, &row, "feature").await.unwrap();
    assert_eq!(found, feature);
    git(dir, &["checkout", "--quiet", "--detach"]).unwrap();
    git(dir, &["branch", "-D", "--quiet", "feature"]).unwrap();
    instance::git::sync_repository(&instance.app, &row).await.unwrap();
    assert!(resolve("feature").await.is_err());
    // HEAD is detached there, and so it is here.
    assert_eq!(resolve("").await.unwrap(), feature);
    assert!(instance::git::remove_repository(&instance.app, NAME).await.unwrap());
    assert!(!instance.app.git.path(row.id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_says_why_and_heals() {
    let instance = Instance::start().await;
    let upstream = Upstream::new();
    register(&instance, &upstream).await;
    let mut row = instance.app.store.repository(NAME).await.unwrap().unwrap();
    let good = std::mem::replace(&mut row.upstream, "/no/such/place".to_owned());
    assert!(instance::git::sync_repository(&instance.app, &row).await.is_err());
    let failed = instance.app.store.repository(NAME).await.unwrap().unwrap();
    assert_eq!(failed.state, RepositoryState::Error);
    assert!(failed.error.contains("/no/such/place"), "{}", failed.error);
    // A git that was killed leaves locks and half packs.
    let mirror = instance.app.git.path(row.id);
    for left in
        ["packed-refs.lock", "HEAD.lock", "refs/heads/trunk.lock", "objects/pack/tmp_pack_x"]
    {
        let path = mirror.join(left);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    row.upstream = good;
    git(upstream.dir.path(), &["commit", "--quiet", "--allow-empty", "-m", "3"]).unwrap();
    instance::git::sync_repository(&instance.app, &row).await.unwrap();
    let head = git(upstream.dir.path(), &["rev-parse", "HEAD"]).unwrap();
    assert_eq!(instance.app.git.resolve(row.id, "trunk").await.unwrap(), head);
    assert!(!mirror.join("objects/pack/tmp_pack_x").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_pack_ends_with_its_client() {
    let instance = Instance::start().await;
    let upstream = Upstream::new();
    let dir = upstream.dir.path();
    let noise: Vec<u8> =
        (0..24_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(dir.join("noise"), noise).unwrap();
    git(dir, &["add", "."]).unwrap();
    git(dir, &["-c", "core.compression=0", "commit", "--quiet", "-m", "noise"]).unwrap();
    let head = git(dir, &["rev-parse", "HEAD"]).unwrap();
    register(&instance, &upstream).await;
    let held = instance.held("batches", NAME).await;
    let want = format!("0011command=fetch0001000fno-progress0032want {head}\n0009done\n0000");
    let mut response = instance
        .http
        .post(format!("{}/.executors/git/{NAME}/git-upload-pack", instance.url))
        .header("authorization", format!("Bearer {}", held.token))
        .header("x-sourcegraph-job-id", held.id)
        .header("x-sourcegraph-executor-name", "exec-7")
        .header("git-protocol", "version=2")
        .body(want)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    response.chunk().await.unwrap().expect("a first piece");
    assert_eq!(instance.app.metrics.upload_packs.get(), 1);
    drop(response);
    let gone = async || instance.app.metrics.upload_packs.get() == 0;
    until("upload-pack ends with its client", gone).await;
}

/// A remote that answers 404 and remembers what it was asked with.
async fn recording_remote() -> (String, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let router = axum::Router::new().fallback(move |headers: axum::http::HeaderMap| {
        let header = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
        record.lock().unwrap().push(header.unwrap_or_default());
        async { axum::http::StatusCode::NOT_FOUND }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_reach_the_remote_and_nobody_else() {
    let instance = Instance::start().await;
    let (address, seen) = recording_remote().await;
    let upstream = format!("http://bob:s3cret@{address}/app.git");
    let new = NewRepository { name: NAME.into(), upstream, ..NewRepository::default() };
    instance.app.store.add_repository(&new, 0).await.unwrap();
    let row = instance.app.store.repository(NAME).await.unwrap().unwrap();
    let error = loop {
        match instance::git::sync_repository(&instance.app, &row).await {
            // The instance's own loop is at it.
            Err(instance::git::SyncError::Busy) => tokio::task::yield_now().await,
            other => break other.unwrap_err().to_string(),
        }
    };
    let stored = instance.app.store.repository(NAME).await.unwrap().unwrap().error;
    for text in [&error, &stored] {
        assert!(text.contains("not found") && text.contains(&address), "{text}");
        assert!(!text.contains("s3cret") && !text.contains("bob"), "{text}");
    }
    // base64 of bob:s3cret
    assert!(seen.lock().unwrap().iter().any(|h| h == "Basic Ym9iOnMzY3JldA=="));
    let config = std::fs::read_to_string(instance.app.git.path(row.id).join("config")).unwrap();
    assert!(!config.contains("s3cret"), "{config}");
}

//! Checkouts of a real repository through the git route of an instance.

use std::path::{Path, PathBuf};
use std::process::Command;

use executor::client::{Client, JobClient};
use executor::config::{Queues, Secret};
use executor::git::{CheckoutError, CheckoutRequest, Repositories, Workspace};
use executor::logs::{JobLog, Redactor, SendMode};
use protocol::Job;

use crate::fake::{Fake, SECRET};

struct World {
    fake: Fake,
    dir: tempfile::TempDir,
    client: JobClient,
    log: JobLog,
    repositories: Repositories,
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-C"])
        .arg(dir)
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {args:?}: {text}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

impl World {
    async fn new() -> Self {
        let fake = Fake::start().await;
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("served/team/app");
        std::fs::create_dir_all(&source).unwrap();
        git(&source, &["init", "--quiet", "--initial-branch=main"]);
        git(&source, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        fake.lock().repository = Some(dir.path().join("served"));
        let client =
            Client::new(fake.url.clone(), Secret::new(SECRET), "executor-1".to_owned()).unwrap();
        client.ping(&Queues::One("jobs".to_owned())).await.unwrap();
        fake.lock().processing.insert(7, "executor-1".to_owned());
        let client = client.job("jobs", 7, "token-7");
        let redactor = Redactor::new(&std::collections::BTreeMap::new());
        let log = JobLog::start(
            &dir.path().join("log"),
            client.clone(),
            SendMode::Whole,
            redactor,
            1 << 20,
        );
        let repositories = Repositories::open(&dir.path().join("cache"), 1 << 30).unwrap();
        Self { log: log.unwrap(), fake, client, repositories, dir }
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("served/team/app")
    }

    fn commit(&self, message: &str) -> String {
        git(&self.source(), &["add", "--all"]);
        git(&self.source(), &["commit", "--quiet", "--allow-empty", "-m", message]);
        git(&self.source(), &["rev-parse", "HEAD"])
    }

    async fn checkout(&self, job: &Job) -> Result<Workspace, CheckoutError> {
        let request = CheckoutRequest::of_job(job).unwrap().unwrap();
        self.repositories.workspace(&request, &self.client, &self.log).await
    }

    /// The content of a checkout, unpacked.
    fn unpack(&self, workspace: &Workspace) -> PathBuf {
        let out = self.dir.path().join(format!("out-{}", workspace.commit));
        let status = Command::new("unsquashfs")
            .args(["-quiet", "-no-progress", "-dest"])
            .arg(&out)
            .arg(&workspace.squashfs)
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        out
    }
}

fn job(commit: &str) -> Job {
    Job {
        repository_name: "team/app".into(),
        commit: commit.into(),
        shallow_clone: true,
        ..Job::default()
    }
}

#[tokio::test]
async fn a_checkout_is_a_normal_work_tree_without_a_trace_of_the_host() {
    let world = World::new().await;
    write(&world.source(), "src/a.txt", "one");
    world.commit("first");
    write(&world.source(), "src/a.txt", "two");
    let second = world.commit("second");
    let workspace = world.checkout(&job(&second)).await.unwrap();
    let tree = world.unpack(&workspace);
    assert_eq!(std::fs::read_to_string(tree.join("src/a.txt")).unwrap(), "two");
    assert_eq!(git(&tree, &["log", "--format=%s"]), "second");
    assert_eq!(git(&tree, &["status", "--porcelain"]), "");
    assert_eq!(git(&tree, &["remote", "get-url", "origin"]), "team/app");
    let grep = Command::new("grep")
        .args(["--recursive", "--text", "--files-with-matches", "-e"])
        .arg(world.dir.path())
        .args(["-e", "token-7", "-e", "127.0.0.1"])
        .arg(&tree)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(grep.stdout).unwrap(), "");
    assert!(!tree.join(".git/hooks").exists());
    world.fake.assert_nothing_wrong();
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let world = World::new().await;
    write(&world.source(), "a.txt", "one");
    let commit = world.commit("first");
    let first = world.checkout(&job(&commit)).await.unwrap();
    // Without the instance: nothing is needed from it.
    world.fake.lock().repository = Some("/nonexistent".into());
    let again = world.checkout(&job(&commit)).await.unwrap();
    assert_eq!(first.squashfs, again.squashfs);
    let sparse = Job { sparse_checkout: vec!["/b/*".into()], ..job(&commit) };
    let other = world.checkout(&sparse).await.unwrap();
    assert_ne!(first.squashfs, other.squashfs);
    world.log.flush().await.unwrap();
    let fetches = world.fake.lock().entries[&7].clone();
    let here = fetches.iter().filter(|entry| entry.out.contains("is here already")).count();
    assert_eq!(here, 3, "{fetches:#?}");
}

#[tokio::test]
async fn options_of_the_job_are_honoured() {
    let world = World::new().await;
    write(&world.source(), "a/x", "1");
    write(&world.source(), "b/y", "2");
    world.commit("first");
    let commit = world.commit("second");
    git(&world.source(), &["tag", "v1"]);
    let wanted = Job {
        repository_directory: "repository".into(),
        sparse_checkout: vec!["a/*".into()],
        shallow_clone: false,
        fetch_tags: true,
        ..job("main")
    };
    let workspace = world.checkout(&wanted).await.unwrap();
    assert_eq!(workspace.commit, commit);
    let tree = world.unpack(&workspace).join("repository");
    assert!(tree.join("a/x").exists());
    assert!(!tree.join("b").exists());
    assert_eq!(git(&tree, &["log", "--format=%s"]), "second\nfirst");
    assert_eq!(git(&tree, &["tag"]), "v1");
}

#[tokio::test]
async fn a_hostile_tree_stays_inside() {
    let world = World::new().await;
    let outside = world.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, world.source().join(".sourcegraph-executor")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.source().join("passwd")).unwrap();
    write(&world.source(), ".gitattributes", "* filter=evil\n");
    write(&world.source(), ".lfsconfig", "[lfs]\nurl = http://127.0.0.1:1/\n");
    let commit = world.commit("hostile");
    let workspace = world.checkout(&job(&commit)).await.unwrap();
    let tree = world.unpack(&workspace);
    let link = std::fs::read_link(tree.join(".sourcegraph-executor")).unwrap();
    assert_eq!(link, outside);
    assert_eq!(std::fs::read_link(tree.join("passwd")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn a_tree_with_a_git_folder_in_it_is_refused() {
    let world = World::new().await;
    write(&world.source(), "a", "x");
    world.commit("first");
    let blob = git(&world.source(), &["rev-parse", "HEAD:a"]);
    let make_tree = |entry: &str| {
        let command = format!("printf '{entry}' | git -C '{}' mktree", world.source().display());
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let inner = make_tree(&format!("100644 blob {blob}\\tconfig\\n"));
    let outer = make_tree(&format!("040000 tree {inner}\\t.GIT\\n"));
    let commit = git(&world.source(), &["commit-tree", &outer, "-m", "evil"]);
    git(&world.source(), &["update-ref", "refs/heads/evil", &commit]);
    let error = world.checkout(&job(&commit)).await.unwrap_err();
    assert!(error.is_about_the_repository(), "{error}");
}

#[tokio::test]
async fn a_commit_that_is_not_there_fails_with_the_words_of_git() {
    let world = World::new().await;
    world.commit("first");
    let error = world.checkout(&job(&"0c".repeat(20))).await.unwrap_err();
    assert!(error.is_about_the_repository(), "{error}");
    assert!(error.to_string().contains("0c0c0c"), "{error}");
    world.log.flush().await.unwrap();
    assert_eq!(world.fake.entry(7, "setup.git.fetch").exit_code, Some(128));
}

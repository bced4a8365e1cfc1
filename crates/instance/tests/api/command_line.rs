//! The real `instance` program against an instance in this process.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::AbortHandle;

use super::jobs::FILE;
use super::people::{PASSWORD, Person};
use crate::support::{Instance, PATIENCE};

fn program(url: &str, token: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_instance"));
    command.env_remove("INSTANCE_DATA_DIR").env("INSTANCE_URL", url).env("INSTANCE_TOKEN", token);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts it with `input` on its standard input and waits for its end.
async fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that ends without reading is fine.
    drop(stdin.write_all(input.as_bytes()).await);
    drop(stdin);
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap()
}

#[track_caller]
fn says(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(out.contains(stdout), "stdout: {out}");
    assert!(err.contains(stderr), "stderr: {err}");
}

/// Forwards connections to an instance until they are cut.
struct Proxy {
    url: String,
    open: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Proxy {
    async fn to(instance: &Instance) -> Self {
        let target = instance.url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let open: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let connections = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let target = target.clone();
                let pump = tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
                connections.lock().unwrap().push(pump.abort_handle());
            }
        });
        Self { url, open }
    }

    fn cut(&self) {
        self.open.lock().unwrap().drain(..).for_each(|pump| pump.abort());
    }
}

#[tokio::test]
async fn following_survives_lost_connections_and_hostile_output() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let proxy = Proxy::to(&instance).await;
    let id = ada.submit(&instance, FILE).await;
    let mut follow = program(&proxy.url, &ada.token);
    let follower = follow.args(["job", "logs", &id.to_string(), "--follow"]).spawn().unwrap();
    let job = instance.run().await;
    let entry = job.entry("step.docker.a").await;
    let mut offset = 0;
    let mut expected = String::new();
    for line in 0..40 {
        let data = format!("stdout: line {line} \u{1b}]52;c;cm0=\u{7}\u{1b}[31mend\n");
        job.output(entry, offset, data.as_bytes(), None).await;
        offset += data.len() as u64;
        expected += &format!("line {line} end\n");
        if line % 10 == 5 {
            proxy.cut();
        }
    }
    job.output(entry, offset, b"stderr: \x1b]8;;http://x\x1b\\last", Some(7)).await;
    job.fails(7).await;
    let ended = tokio::time::timeout(PATIENCE, follower.wait_with_output()).await;
    let output = ended.expect("it ends with the job").unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected + "last\n");
    says(&output, 7, "", "failed (step_failed): step 0 failed");
    assert!(!output.stderr.contains(&0x1b));
}

#[tokio::test]
async fn a_job_is_submitted_shown_and_canceled() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let ask = async |args: &[&str], input: &str| {
        run(program(&instance.url, &ada.token).args(args), input).await
    };
    says(&ask(&["job", "submit", "-"], FILE).await, 0, "1\n", "");
    says(&ask(&["job", "list"], "").await, 0, "queued", "");
    says(&ask(&["job", "show", "1"], "").await, 0, "no executor has ever connected", "");
    says(&ask(&["job", "cancel", "1"], "").await, 0, "", "job 1: canceled");
    says(&ask(&["job", "hold", "1"], "").await, 1, "", "job 1 is canceled already");
    says(&ask(&["job", "logs", "1", "--follow"], "").await, 1, "", "canceled by ada");
    says(&ask(&["job", "retry", "1"], "").await, 0, "1\n", "");
    says(&ask(&["job", "hold", "1"], "").await, 0, "", "job 1: kept 30m if it fails");
    says(&ask(&["job", "hold", "1", "--for", "2h"], "").await, 1, "", "executors.maximumHold");
    says(&ask(&["job", "hold", "1", "--for", "soon"], "").await, 2, "", "--for");
    instance.run().await.fails_and_holds(60_000).await;
    says(&ask(&["job", "show", "1"], "").await, 0, "attempt 1 on exec-1, kept until 20", "");
    says(&ask(&["job", "release", "1"], "").await, 0, "", "job 1: its machine goes");
    says(&ask(&["job", "show", "1"], "").await, 0, "attempt 1 on exec-1, released by ada", "");
    says(&ask(&["job", "show", "9"], "").await, 1, "", "job not found");
    let bad = ask(&["job", "submit", "-"], "steps: []\n").await;
    says(&bad, 1, "", "steps: must have 1 to 100 steps (line 1, column 8)");
    says(&ask(&["job", "sbumit"], "").await, 2, "", "unrecognized subcommand");
    says(
        &ask(&["user", "create", "bob", "--password-stdin"], PASSWORD).await,
        0,
        "",
        "bob: created",
    );
    says(&ask(&["user", "list", "--json"], "").await, 0, "\"name\": \"bob\"", "");
    let wrong = Person { name: "nobody", token: "exec_0".to_owned() };
    let refused = run(program(&instance.url, &wrong.token).args(["job", "list"]), "").await;
    says(&refused, 1, "", "access token is wrong or revoked");
    says(&run(program("", "").args(["job", "list"]), "").await, 1, "", "INSTANCE_URL");
}

#[tokio::test]
async fn the_server_is_set_up_from_its_data_folder() {
    let dir = tempfile::tempdir().unwrap();
    let local = async |args: &[&str], input: &str| {
        let mut command = program("", "");
        command.env_remove("INSTANCE_URL").env("INSTANCE_DATA_DIR", dir.path());
        run(command.args(args), input).await
    };
    let config = dir.path().join("site-config.jsonc");
    let token = local(&["config", "generate-token", "--save"], "").await;
    says(&token, 0, "", "saved in");
    let token = String::from_utf8(token.stdout).unwrap();
    assert!(read(&config).contains(token.trim()));
    let shown = local(&["config", "get"], "").await;
    says(&shown, 0, "\"executors.accessToken\": \"REDACTED\"", "");
    assert!(!String::from_utf8_lossy(&shown.stdout).contains(token.trim()));
    says(&local(&["config", "validate"], "").await, 0, "", "ok");
    std::fs::write(&config, read(&config).replace("\"jobs.", "\"job.")).unwrap();
    let bad = local(&["config", "validate"], "").await;
    says(&bad, 1, "", "job.retentionDays: unknown key; did you mean \"jobs.retentionDays\"?");
    std::fs::write(&config, "{}").unwrap();
    let made = local(&["admin", "create", "ada", "--password-stdin", "--token"], PASSWORD).await;
    says(&made, 0, "exec_", "site admin ada: created");
    let again = local(&["admin", "create", "Ada", "--password-stdin"], PASSWORD).await;
    says(&again, 1, "", "exists already");
    says(&local(&["repo", "list"], "").await, 0, "NAME", "");
    says(&local(&["token", "create", "--note", "x", "--user", "ada"], "").await, 0, "exec_", "");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

//! A fresh database for each test.

use std::io::{BufRead as _, BufReader};
use std::ops::Deref;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{Connection as _, PgConnection};
use store::{Claim, ClaimRequest, Enqueued, Finish, Lease, NewJob, Outcome, Store};

/// Any moment; tests step it by hand.
pub const T0: i64 = 1_750_000_000_000;

/// A store on a database of its own.
pub struct Db {
    pub store: Store,
    /// For opening it a second time, like another replica.
    pub url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Deref for Db {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Db {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("instance.db").display());
        Self { store: Store::open(&url).await.unwrap(), url, _folder: Some(folder) }
    }

    /// `None` only when the environment says to skip.
    pub async fn postgres() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if std::env::var("EXECUTORS_SKIP_POSTGRES").is_ok_and(|skip| skip == "1") {
            eprintln!("SKIPPED on PostgreSQL: EXECUTORS_SKIP_POSTGRES=1");
            return None;
        }
        let server = server();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("executors_test_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        let url = server.url(&name);
        Some(Self { store: Store::open(&url).await.unwrap(), url, _folder: None })
    }

    /// Enqueues a job that is nothing special.
    pub async fn enqueue_one(&self, queue: &str, creator_id: i64, now: i64) -> i64 {
        let Enqueued { id, created } = self.enqueue(&job(queue, creator_id), now).await.unwrap();
        assert!(created);
        id
    }

    pub async fn claim_one(&self, queue: &str, executor: &str, now: i64) -> Option<Claim> {
        let queues = [queue.to_owned()];
        let request = ClaimRequest { queues: &queues, executor, shares: None, now };
        self.claim(&request).await.unwrap()
    }

    /// A job of `jobs` in the hands of `exec-1`.
    pub async fn running(&self, now: i64) -> Claim {
        self.enqueue_one("jobs", 1, now).await;
        self.claim_one("jobs", "exec-1", now).await.unwrap()
    }
}

pub fn job(queue: &str, creator_id: i64) -> NewJob {
    NewJob {
        queue: queue.to_owned(),
        name: "count lines".into(),
        repository: "example/app".into(),
        commit: "4b825dc642cb6eb9a060e54bf8d69288fbee4904".into(),
        creator_id,
        payload: r#"{"dockerSteps":[]}"#.into(),
        ..NewJob::default()
    }
}

pub fn lease(claim: &Claim) -> Lease<'_> {
    Lease {
        queue: &claim.job.queue,
        job_id: claim.job.id,
        executor: &claim.job.executor,
        attempt: Some(claim.job.attempt),
    }
}

pub fn finish(claim: &Claim, outcome: Outcome) -> Finish<'_> {
    Finish {
        lease: lease(claim),
        outcome,
        reason: None,
        message: String::new(),
        exit_code: None,
        usage: None,
        hold_ms: None,
    }
}

struct Server {
    /// Everything before the name of the database, and everything after it.
    url: (String, String),
}

impl Server {
    fn url(&self, database: &str) -> String {
        format!("{}{database}{}", self.url.0, self.url.1)
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var("EXECUTORS_TEST_POSTGRES_URL") {
        Ok(url) => {
            let (base, rest) = url.rsplit_once('/').expect("postgres://HOST/DATABASE");
            let options = rest.split_once('?').map_or(String::new(), |(_, o)| format!("?{o}"));
            Server { url: (format!("{base}/"), options) }
        }
        Err(_) => start_cluster(),
    })
}

/// Makes a cluster, says where, and removes it when its standard input ends, that is when the test
/// process ends in whatever way.
const CLUSTER: &str = r#"
set -e
dir=$(mktemp -d /tmp/executors-postgres.XXXXXX)
trap 'rm -rf "$dir"' EXIT
"$1/initdb" -D "$dir/data" -U postgres -A trust --no-sync >"$dir/log" 2>&1 </dev/null ||
    { cat "$dir/log" >&2; exit 1; }
"$1/pg_ctl" -D "$dir/data" -l "$dir/log" -w start >/dev/null </dev/null \
    -o "-c listen_addresses= -c unix_socket_directories=$dir -c fsync=off -c max_connections=400" ||
    { cat "$dir/log" >&2; exit 1; }
echo "$dir"
cat >/dev/null
"$1/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1
"#;

fn start_cluster() -> Server {
    let binaries = std::fs::read_dir("/usr/lib/postgresql")
        .ok()
        .and_then(|versions| versions.filter_map(Result::ok).map(|v| v.path().join("bin")).max())
        .filter(|bin| bin.join("initdb").exists())
        .expect(
            "PostgreSQL is missing: install the package postgresql, name a server in \
             EXECUTORS_TEST_POSTGRES_URL, or set EXECUTORS_SKIP_POSTGRES=1",
        );
    // initdb refuses to run as root.
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mut command = if root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    let mut child = command
        .args(["-c", CLUSTER, "sh"])
        .arg(binaries)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut dir = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut dir).unwrap();
    assert!(!dir.is_empty(), "the throw-away PostgreSQL cluster did not start");
    // Keeps the pipe open for as long as this process lives.
    std::mem::forget(child);
    let host = dir.trim().replace('/', "%2F");
    Server { url: ("postgres://postgres@localhost/".into(), format!("?host={host}")) }
}

/// Every text in the tables that hold tokens, for "is it in there" questions.
pub async fn all_text(db: &Db) -> String {
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&db.url).await.unwrap();
    let mut all = String::new();
    for sql in [
        "SELECT queue || ' ' || executor || ' ' || token_hash || ' ' || message FROM attempts",
        "SELECT repository || ' ' || name || ' ' || message FROM jobs",
        "SELECT token_hash || ' ' || csrf_secret FROM sessions",
        "SELECT note || ' ' || token_hash FROM access_tokens",
        "SELECT key || ' ' || value FROM settings",
    ] {
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
        all.push_str(&rows.join("\n"));
    }
    pool.close().await;
    all
}

//! What a job reaches over the network, seen from inside its virtual machine.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::api::Job;
use e2e::engine::Engine;
use e2e::executor::Executor;
use e2e::outside::{DNS, MACHINE, METADATA, OTHER, Outside, PRIVATE, PUBLIC, PUBLIC_6};
use e2e::program::run_command;
use e2e::wait::until_true;
use e2e::world::{PATIENCE, World, job};
use serde_json::{Value, json};

/// Shell functions for scripts: `try NAME COMMAND…` prints what the command printed, or `refused`.
const TOOLS: &str = r#"
get() { timeout 5 wget -q -O - "$@"; }
try() { name=$1; shift; if out=$("$@" 2>/dev/null) && [ -n "$out" ]; then echo "$name: $out"; else echo "$name: refused"; fi; }
"#;

/// The tests share the addresses of the outside: one at a time.
static OUTSIDE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn with_network(script: &str) -> Value {
    let mut job = job(&format!("{TOOLS}\n{script}"));
    job["network"] = json!("egress");
    job
}

async fn executor(world: &World, engine: Option<&Engine>) -> Executor {
    let opened = format!("{PRIVATE}:5000");
    let settings =
        [("EXECUTOR_NETWORK_DNS", DNS), ("EXECUTOR_NETWORK_ALLOW_ADDRESSES", opened.as_str())];
    world.executor_on(engine, "one", &settings).await
}

/// Namespaces of this test's executors: their names begin with the hash of the state directory, and the
/// executor that is the only one with a network at a time has the only ones.
fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("executor-") && name.contains("-one-jobs-")).collect()
}

async fn log_of(job: &Job) -> (Value, String) {
    let done = job.reaches("completed", PATIENCE).await;
    (done, job.log().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_reaches_the_internet_and_nothing_inside() {
    let _one_at_a_time = OUTSIDE.lock().await;
    let world = World::new().await;
    let Some(_outside) = Outside::new(world.path()) else { return };
    reaches_the_internet_and_nothing_inside(&world, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_containers_reaches_the_internet_and_nothing_inside() {
    let _one_at_a_time = OUTSIDE.lock().await;
    let world = World::new().await;
    let Some(_outside) = Outside::new(world.path()) else { return };
    let Some(engine) = Engine::start(world.path()).await else { return };
    reaches_the_internet_and_nothing_inside(&world, Some(&engine)).await;
    assert_eq!(engine.containers(), [] as [String; 0]);
}

async fn reaches_the_internet_and_nothing_inside(world: &World, engine: Option<&Engine>) {
    let executor = executor(world, engine).await;
    let instance = world.instance.address().port();

    let mut script = String::new();
    let mut get = |name: &str, url: &str| writeln!(script, "try {name} get {url}").unwrap();
    get("public", &format!("http://{PUBLIC}/"));
    get("public6", &format!("http://[{PUBLIC_6}]/"));
    get("named", "http://public.test/");
    get("opened", &format!("http://{PRIVATE}:5000/"));
    for (name, url) in [
        ("private", format!("http://{PRIVATE}/")),
        ("metadata", format!("http://{METADATA}/latest/meta-data/")),
        ("mapped", format!("http://[::ffff:{METADATA}]/")),
        ("metadata6", "http://[fd00:ec2::254]/".to_owned()),
        ("machine", format!("http://{MACHINE}:{instance}/healthz")),
        ("loopback", format!("http://127.0.0.1:{instance}/healthz")),
        ("link", format!("http://192.0.2.1:{instance}/healthz")),
        ("shared", "http://100.64.0.1/".to_owned()),
        ("multicast", "http://224.0.0.1/".to_owned()),
        // Names that lead inside, and other ways to write an address.
        ("rebinding", "http://inside.test/".to_owned()),
        ("named-metadata", "http://metadata.test/".to_owned()),
        ("decimal", "http://2852039166/".to_owned()),
    ] {
        get(name, &url);
    }
    writeln!(script, "try foreign-dns timeout 5 nslookup public.test {PUBLIC}").unwrap();
    writeln!(script, "try operators-dns timeout 5 nslookup public.test {DNS}").unwrap();
    writeln!(script, "try ping timeout 5 ping -c 1 -W 2 {PUBLIC}").unwrap();
    script += "try cards ls /sys/class/net\ncat /etc/resolv.conf\n";
    let job = world.api.submit(&with_network(&script)).await;
    let (done, log) = log_of(&job).await;

    let expect = |name: &str, answer: &str| {
        assert!(log.contains(&format!("stdout: {name}: {answer}")), "{name}: {answer}?\n{log}");
    };
    expect("public", &format!("this is {PUBLIC}"));
    expect("public6", &format!("this is {PUBLIC_6}"));
    expect("named", &format!("this is {PUBLIC}"));
    expect("opened", &format!("this is {PRIVATE}"));
    for refused in [
        "private",
        "metadata",
        "mapped",
        "metadata6",
        "machine",
        "loopback",
        "link",
        "shared",
        "multicast",
        "rebinding",
        "named-metadata",
        "decimal",
        "foreign-dns",
        "operators-dns",
        "ping",
    ] {
        expect(refused, "refused");
    }
    assert!(log.contains("nameserver 192.0.2.1"), "{log}");
    let blocked = done["usage"]["networkBlocked"].as_u64().unwrap();
    assert!(blocked >= 8, "{done:#}");
    assert!(done["usage"]["networkInBytes"].as_u64().unwrap() > 0, "{done:#}");
    for reason in ["metadata service", "private network", "foreign dns"] {
        assert!(log.contains(reason), "{reason}?\n{log}");
    }
    executor.leaves_nothing(PATIENCE).await;
    until_true("the network is gone", PATIENCE, async || namespaces().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_for_jobs_that_ask_within_the_rules_of_their_queue() {
    let _one_at_a_time = OUTSIDE.lock().await;
    let world = World::new().await;
    let Some(_outside) = Outside::new(world.path()) else { return };
    let _executor = executor(&world, None).await;

    let silent =
        world.submit(&format!("{TOOLS}\ntry public get http://{PUBLIC}/\nls /sys/class/net")).await;
    let (done, log) = log_of(&silent).await;
    assert!(log.contains("public: refused") && !log.contains("eth0"), "{log}");
    assert_eq!(done["usage"]["networkBlocked"], 0, "there is nothing to refuse");

    let file = world.path().join("instance/site-config.jsonc");
    let config = std::fs::read_to_string(&file).unwrap();
    let rules = r#"{ "executors.network": { "jobs": { "allowDomains": ["public.test"] } },"#;
    std::fs::write(&file, config.replacen('{', rules, 1)).unwrap();
    let shown = || run_command(world.instance.command("config").args(["get", "executors.network"]));
    assert!(shown().contains("public.test"), "{}", shown());
    let script = format!(
        "try allowed get http://public.test/
        try other get http://other.test/
        try address get http://{OTHER}/
        try forged get --header 'Host: public.test' http://{OTHER}/
        try opened get http://{PRIVATE}:5000/
        try names timeout 5 nslookup c2VjcmV0.other.test"
    );
    // The instance takes the file over by itself, within a second.
    let log = tokio::time::timeout(PATIENCE, async {
        loop {
            let job = world.api.submit(&with_network(&script)).await;
            let (_, log) = log_of(&job).await;
            if log.contains("other: refused") {
                return log;
            }
        }
    });
    let log = log.await.unwrap();
    assert!(log.contains(&format!("allowed: this is {PUBLIC}")), "{log}");
    assert!(log.contains(&format!("forged: this is {PUBLIC}")), "the name decides:\n{log}");
    assert!(log.contains(&format!("opened: this is {PRIVATE}")), "{log}");
    for refused in ["address", "names"] {
        assert!(log.contains(&format!("{refused}: refused")), "{log}");
    }
    assert!(!log.contains(&format!("this is {OTHER}")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_come_back_and_nothing_outlives_a_killed_executor() {
    let _one_at_a_time = OUTSIDE.lock().await;
    let world = World::new().await;
    let Some(_outside) = Outside::new(world.path()) else { return };
    let mut killed = executor(&world, None).await;

    let script = format!(
        "n=0; while :; do get http://{PUBLIC}/ >/dev/null 2>&1 && n=$((n+1)) && echo \"fetch $n\"; done"
    );
    let job = world.api.submit(&with_network(&script)).await;
    job.prints("fetch 2", PATIENCE).await;
    let names = namespaces();
    assert_eq!(names.len(), 1, "{names:?}");
    run_command(Command::new("ip").args(["netns", "exec", &names[0], "nft", "flush", "ruleset"]));
    until_true("the rules are back", PATIENCE, async || killed.log().contains("they are back"))
        .await;
    let fetches = job.log().await.matches("fetch ").count();
    job.prints(&format!("fetch {}", fetches + 2), PATIENCE).await;

    killed.program().kill();
    assert!(Path::new("/run/netns").join(&names[0]).exists(), "the dead cannot tidy up");
    let executor = world.executor_at(&world.instance.url(), "one", &[]);
    until_true("the old network is gone", Duration::from_secs(60), async || {
        !Path::new("/run/netns").join(&names[0]).exists()
    })
    .await;
    run_command(world.instance.command("job").args(["cancel", &job.id.to_string()]));
    job.reaches("canceled", PATIENCE).await;
    executor.leaves_nothing(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_a_job_that_needs_it_fails_with_the_reason() {
    let world = World::new().await;
    let _executor = world.executor("bare", &[("EXECUTOR_NETWORK", "none")]).await;
    let job = world.api.submit(&with_network("true")).await;
    let done = job.reaches("failed", PATIENCE).await;
    assert_eq!(done["reason"], "network_unavailable", "{done:#}");
    assert!(done["message"].as_str().unwrap().contains("EXECUTOR_NETWORK=none"), "{done:#}");
}

//! Jobs in plain containers of a real engine.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::api::Job;
use e2e::engine::Engine;
use e2e::events::{Event, Events};
use e2e::executor::Executor;
use e2e::images;
use e2e::program::binary;
use e2e::registry::Registry;
use e2e::wait::until_true;
use e2e::world::{IMAGE, PATIENCE, World, job};
use serde_json::{Value, json};

async fn leaves_nothing(executor: &Executor, engine: &Engine) {
    until_true("nothing of a job is left", PATIENCE, async || {
        engine.containers().is_empty() && executor.run_dirs().is_empty()
    })
    .await;
}

/// What people see of a job that ended: the entries' keys with their exit codes, what steps printed, the end.
async fn seen(world: &World, job: &Job) -> (BTreeMap<i64, String>, Vec<String>, Value) {
    let mut events =
        Events::follow(&world.instance.url(), &world.instance.admin_token, job.id).await;
    let mut entries = BTreeMap::new();
    while let Some(Event { name, data }) = events.next().await {
        match name.as_str() {
            "entry" => {
                let text = format!("{} {}", data["key"], data["exitCode"]);
                entries.insert(data["entry"].as_i64().unwrap(), text);
            }
            "end" => {
                let log = job.log().await;
                // Which of both outputs comes first is the steps' and the pipes' business.
                let printed = log.lines().filter(|line| line.starts_with("stdout: "));
                return (entries, printed.map(str::to_owned).collect(), data);
            }
            _ => {}
        }
    }
    panic!("the events end without an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_file_means_the_same_in_containers_and_in_virtual_machines() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    let registry = Registry::start(world.path()).await;
    let private = registry.push(&engine, &images::tar("busybox"), "team/tools:1");
    let auth = ("EXECUTOR_DOCKER_AUTH_CONFIG", registry.auth_config());
    let auth = [(auth.0, auth.1.as_str())];
    let file = |last: &str| {
        json!({
            "repository": "sample",
            "steps": [
                {
                    "name": "count",
                    "image": private,
                    "run": "cat * | wc -l > ../lines\necho $GREETING >&2\nid -u\nhostname\ncat ../cfg/a.txt",
                    "dir": "src",
                    "env": { "GREETING": "hello 'world' $HOME" },
                },
                { "name": "show", "image": IMAGE, "run": "echo there are $(cat lines) lines\npwd\nls -ld .git/HEAD src src/* | cut -c1-10\nsleep 600 &\nfalse\necho after" },
                { "name": "last", "image": IMAGE, "run": last },
            ],
            "files": { "cfg/a.txt": "text\n" },
            "artifacts": ["lines", "deep/**"],
        })
    };
    let scripts = [
        "mkdir -p deep/er; echo x > deep/er/x; ln -s /etc/passwd deep/link; wget -q -O - http://instance.internal/nothing || echo refused",
        "echo bye; exit 7",
        "kill -9 $$",
    ];
    let mut seen_by = Vec::new();
    for containers in [false, true] {
        let mut executor = match containers {
            true => world.executor_on(Some(&engine), "one", &auth).await,
            false => world.executor("one", &auth).await,
        };
        let mut all = Vec::new();
        for script in scripts {
            let job = world.api.submit(&file(script)).await;
            until_true("it ends", PATIENCE, async || {
                ["completed", "failed"].contains(&job.state().await.as_str())
            })
            .await;
            let artifact = world.api.text(&format!("/jobs/{}/artifacts/lines", job.id)).await;
            assert_eq!(artifact, "3\n");
            all.push(seen(&world, &job).await);
        }
        seen_by.push(all);
        executor.program().stop(PATIENCE).await;
        leaves_nothing(&executor, &engine).await;
    }
    assert_eq!(seen_by[0], seen_by[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_too_much_ends_with_its_reason() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    let executor = world.executor_on(Some(&engine), "one", &[]).await;
    let reason = async |script: &str, key: &str, limit: Value| {
        let mut file = job(&format!("echo started; {script}"));
        file[key] = limit;
        let job = world.api.submit(&file).await;
        job.reaches("failed", PATIENCE).await["reason"].clone()
    };
    assert_eq!(reason("tail /dev/zero", "priority", json!(0)).await, "guest_oom");
    let small = json!({ "disk": "256M" });
    assert_eq!(reason("dd if=/dev/zero of=fill bs=1M", "resources", small).await, "disk_full");
    assert_eq!(reason("sleep 600", "timeout", json!("10s")).await, "timeout");
    let few = json!({ "processes": 32 });
    let forks = "for n in $(seq 64); do sleep 30 & done; wait";
    let forks = reason(&format!("set -e; {forks}; false"), "resources", few).await;
    assert!(["resource_limit", "step_failed"].contains(&forks.as_str().unwrap()), "{forks}");

    let running = world.submit("echo started; sleep 600").await;
    running.prints("started", PATIENCE).await;
    let asked = Instant::now();
    running.cancel().await;
    running.reaches("canceled", PATIENCE).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    leaves_nothing(&executor, &engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_has_no_rights_over_its_host() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    let _executor = world.executor_on(Some(&engine), "one", &[]).await;
    let script = r#"
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
ps | wc -l
ls /sys/class/net
ls /var/run/docker.sock /channels /dev/sda /dev/vda 2>&1
mount -t tmpfs none /mnt 2>&1
mknod /tmp/disk b 8 0 2>&1
echo 1 > /proc/sys/kernel/panic
ip link add dummy0 type dummy 2>&1
cat /proc/1/root/channels/control.sock 2>&1
dmesg 2>&1 | head -1
echo looked"#;
    let job = world.submit(script).await;
    job.reaches("completed", PATIENCE).await;
    let log = job.log().await;
    for expected in [
        "stdout: CapEff:\t00000000000405fb\n",
        "stdout: CapBnd:\t00000000000405fb\n",
        "stdout: NoNewPrivs:\t1\n",
        "stdout: Seccomp:\t2\n",
        "stdout: looked\n",
    ] {
        assert!(log.contains(expected), "{expected}?\n{log}");
    }
    let interfaces: Vec<_> = log.lines().filter(|line| line.ends_with(": lo")).collect();
    assert_eq!(interfaces.len(), 1, "{log}");
    for refused in ["mount: ", "mknod: ", "ip: "] {
        assert!(log.contains(&format!("stdout: {refused}")), "{refused}?\n{log}");
    }
    for name in ["docker.sock", "/dev/sda", "/dev/vda"] {
        assert!(log.contains(&format!("{name}: No such file")), "{name}?\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_takes_its_containers_with_it() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    let mut killed = world.executor_on(Some(&engine), "one", &[]).await;
    let job = world.submit("echo started; sleep 600").await;
    job.prints("started", PATIENCE).await;
    assert_eq!(engine.containers().len(), 2);
    let settings = engine.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
    // Another executor on the same engine, whose job goes on.
    let other = world.executor_on(Some(&engine), "other", &[]).await;
    let theirs = world.submit("echo theirs; sleep 20; echo survived").await;
    theirs.prints("theirs", PATIENCE).await;

    killed.program().kill();
    let running = || engine.run(&["ps", "--quiet"]).lines().count();
    until_true("no process of the job is left", PATIENCE, async || running() == 2).await;
    job.cancel().await;
    let again = world.executor_at(&world.instance.url(), "one", &settings);
    until_true("nothing of it is left", Duration::from_secs(60), async || {
        engine.containers().iter().all(|name| name.starts_with("other-"))
            && again.run_dirs().is_empty()
    })
    .await;
    theirs.reaches("completed", PATIENCE).await;
    assert!(theirs.log().await.contains("survived"));
    leaves_nothing(&other, &engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_stock_executors_have_their_effect() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    // The engine sees the state directory at another path, as with an executor in a container.
    let seen = world.path().join("seen-by-the-engine");
    std::os::unix::fs::symlink(world.path().join("one"), &seen).unwrap();
    let settings = [
        ("EXECUTOR_DOCKER_HOST_MOUNT_PATH", seen.to_str().unwrap()),
        ("EXECUTOR_DOCKER_ADD_HOST_GATEWAY", "true"),
    ];
    let executor = world.executor_on(Some(&engine), "one", &settings).await;
    let host = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        let (mut connection, _) = host.accept().unwrap();
        connection.write_all(b"HTTP/1.0 200 OK\r\n\r\nthis is the host\n").unwrap();
    });

    let mut file =
        job(&format!("wget -q -O - http://host.docker.internal:{port}/; echo looked; sleep 600"));
    file["network"] = json!("egress");
    let reaching = world.api.submit(&file).await;
    reaching.prints("stdout: looked", PATIENCE).await;
    assert!(reaching.log().await.contains("this is the host"), "{}", reaching.log().await);
    answer.join().unwrap();
    let mounted = engine.run(&[
        "inspect",
        "--format",
        "{{range .HostConfig.Mounts}}{{.Source}} {{end}}",
        &engine.containers()[0],
    ]);
    assert!(mounted.contains(seen.to_str().unwrap()), "{mounted}");
    reaching.cancel().await;
    leaves_nothing(&executor, &engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_is_told_apart_from_a_failing_script() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    let executor = world.executor_on(Some(&engine), "one", &[]).await;
    let running = world.submit("echo started; sleep 600").await;
    running.prints("started", PATIENCE).await;
    let containers = engine.containers();
    let agent = containers.iter().min_by_key(|name| name.len()).expect("it runs");
    engine.run(&["kill", agent]);
    let done = running.reaches("failed", PATIENCE).await;
    assert_eq!(done["reason"], "guest_crashed", "{done:#}");
    leaves_nothing(&executor, &engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_keeps_the_images_that_were_used_last() {
    let world = World::new().await;
    world.instance.import_image("base");
    let Some(engine) = Engine::start(world.path()).await else { return };
    let mut executor = world.executor_on(Some(&engine), "one", &[]).await;
    for image in ["executors.internal/base:1", IMAGE] {
        let mut file = job("true");
        file["steps"][0]["image"] = json!(image);
        world.api.submit(&file).await.reaches("completed", PATIENCE).await;
    }
    let loaded = || engine.run(&["images", "--quiet", "executors.invalid/image"]).lines().count();
    assert_eq!(loaded(), 2);
    executor.program().stop(PATIENCE).await;
    // Room for one of them: the next start makes it.
    let small = [("EXECUTOR_IMAGE_CACHE_SIZE", "32M")];
    let _executor = world.executor_on(Some(&engine), "one", &small).await;
    until_true("the older image is gone", PATIENCE, async || loaded() == 1).await;
    world.submit("true").await.reaches("completed", PATIENCE).await;
    assert_eq!(loaded(), 1, "it was the one that was used last");
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_says_what_containers_do_not_protect() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    let validate = |settings: &[(&str, String)]| {
        let mut validate = Command::new(binary("executor"));
        validate
            .arg("validate")
            .env("EXECUTOR_FRONTEND_URL", world.instance.url())
            .env("EXECUTOR_FRONTEND_PASSWORD", &world.instance.access_token)
            .env("EXECUTOR_QUEUE_NAME", "jobs")
            .env("EXECUTOR_STATE_DIR", world.path().join("validate"))
            .envs(settings.iter().map(|(name, value)| (*name, value.as_str())));
        let output = validate.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (fit, said) = validate(&engine.settings());
    assert!(fit, "{said}");
    for expected in [
        "ok       container engine: version",
        "warning  isolation: every job shares this machine's kernel",
        "warning  isolation: the root of a container is root of this machine",
        "ok       container: ready in",
    ] {
        assert!(said.contains(expected), "{expected}?\n{said}");
    }
    let (fit, said) = validate(&engine.settings()[..1]);
    assert!(!fit && said.contains("EXECUTOR_DANGER_ALLOW_CONTAINERS=true"), "{said}");
    let mut nowhere = engine.settings();
    nowhere[2].1 = "unix:///nowhere/docker.sock".to_owned();
    let (fit, said) = validate(&nowhere);
    assert!(!fit && said.contains("error    container engine: connect to"), "{said}");
}

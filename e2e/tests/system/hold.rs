//! A failed job's machine is kept on a real executor, and a site admin looks into it.

use std::time::Duration;

use e2e::api::Job;
use e2e::engine::Engine;
use e2e::http::client;
use e2e::wait::{until, until_true};
use e2e::world::{IMAGE, PATIENCE, World};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// A terminal as its page sees it, with an access token instead of a session.
struct Terminal<'a> {
    world: &'a World,
    page: String,
    typed: usize,
}

async fn post(world: &World, path: &str, body: String) -> Response {
    let request = client().post(format!("{}{path}", world.instance.url()));
    let token = format!("token {}", world.instance.admin_token);
    let request = request.header("Authorization", token);
    let form = "application/x-www-form-urlencoded";
    request.header("Content-Type", form).body(body).send().await.expect("the instance answers")
}

impl<'a> Terminal<'a> {
    async fn open(world: &'a World, job: i64) -> Self {
        let path = format!("/jobs/{job}/terminal");
        let answer = post(world, &path, "attempt=1".to_owned()).await;
        assert!(answer.status().is_success(), "{}", answer.status());
        // The client has followed the way to the terminal's page.
        let page = answer.url().path().to_owned();
        assert!(page.starts_with(&path) && page.len() > path.len(), "{page}");
        Self { world, page, typed: 0 }
    }

    async fn types(&mut self, text: &str) {
        let path = format!("{}/input?offset={}", self.page, self.typed);
        let answer = post(self.world, &path, text.to_owned()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        self.typed += text.len();
    }

    /// Everything printed so far.
    async fn printed(&self) -> String {
        let url = format!("{}{}/recording", self.world.instance.url(), self.page);
        let token = format!("token {}", self.world.instance.admin_token);
        let answer = client().get(url).header("Authorization", token).send().await;
        let cast = answer.expect("the instance answers").text().await.expect("a recording");
        let events = cast.lines().skip(1).map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        events.filter(|e| e[1] == "o").filter_map(|e| e[2].as_str().map(str::to_owned)).collect()
    }

    async fn shows(&self, text: &str) {
        let mut last = String::new();
        until(&format!("the terminal shows {text:?}"), PATIENCE, async || {
            last = self.printed().await;
            last.contains(text).then_some(())
        })
        .await;
    }
}

fn failing(hold: &str) -> Value {
    json!({
        "repository": "sample",
        "steps": [{
            "name": "main",
            "image": IMAGE,
            "run": "echo evidence > left\nexit 3",
            "dir": "src",
            "env": { "SECRET_OF_THE_STEP": "hunter2" },
        }],
        "on_failure": hold,
    })
}

/// How the hold of its first attempt ended, once it has.
async fn ended(job: &Job) -> String {
    until("the hold has ended", PATIENCE, async || {
        job.get().await["hold"]["machines"][0]["end"].as_str().map(str::to_owned)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_admin_finds_a_failed_job_as_it_was() {
    finds_a_failed_job_as_it_was(&World::new().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_admin_finds_a_failed_job_in_containers_as_it_was() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    finds_a_failed_job_as_it_was(&world, Some(&engine)).await;
    assert_eq!(engine.containers(), [] as [String; 0]);
}

async fn finds_a_failed_job_as_it_was(world: &World, engine: Option<&Engine>) {
    let mut executor = world.executor_on(engine, "one", &[]).await;
    let job = world.api.submit(&failing("hold 10m")).await;
    let done = job.reaches("failed", PATIENCE).await;
    assert_eq!((&done["reason"], &done["exitCode"]), (&json!("step_failed"), &json!(3)));
    assert_eq!(done["hold"]["machines"][0]["attempt"], 1, "{done:#}");
    let seen = world.api.executors().await;
    assert_eq!((&seen[0]["held"], &seen[0]["jobs"]), (&json!([job.id]), &json!([])));
    // Its slot is taken: the next job waits.
    let next = world.submit("echo next").await;

    let mut terminal = Terminal::open(world, job.id).await;
    terminal.types("cat left; echo \"at-$PWD-env-$SECRET_OF_THE_STEP-end\"; ls one two\r").await;
    terminal.shows("evidence\r\n").await;
    terminal.shows("at-/data/src-env--end").await;
    let size = format!("{}/size?cols=101&rows=33", terminal.page);
    assert_eq!(post(world, &size, String::new()).await.status(), StatusCode::NO_CONTENT);
    terminal
        .types("while [ \"$(stty size)\" != '33 101' ]; do sleep 1; done; echo si''zed\r")
        .await;
    terminal.shows("sized\r\n").await;
    let mut second = Terminal::open(world, job.id).await;
    second.types("exit 7\r").await;
    let page = format!("{}{}", world.instance.url(), second.page);
    let token = format!("token {}", world.instance.admin_token);
    until_true("the shell has ended", PATIENCE, async || {
        let shown = client().get(&page).header("Authorization", &token).send().await;
        shown.expect("the instance answers").text().await.expect("a page").contains("exit 7")
    })
    .await;
    assert_eq!(next.state().await, "queued");
    assert!(executor.program().is_running() && !executor.run_dirs().is_empty());

    let url = format!("{}/api/v1/jobs/{}/hold", world.instance.url(), job.id);
    let released = client().delete(url).header("Authorization", &token).send().await;
    assert_eq!(released.expect("the instance answers").status(), StatusCode::OK);
    next.reaches("completed", PATIENCE).await;
    executor.leaves_nothing(PATIENCE).await;
    let machine = job.get().await["hold"]["machines"][0].clone();
    assert_eq!((&machine["end"], &machine["releasedBy"]), (&json!("released"), &json!("admin")));
    assert!(terminal.printed().await.contains("evidence"), "the record stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_admin_decides_while_the_job_runs() {
    let world = World::new().await;
    let executor = world.executor("one", &[]).await;
    for (said, held) in [(json!({ "seconds": 600 }), true), (json!({ "seconds": 0 }), false)] {
        let mut file = failing("hold 5m");
        file["steps"][0]["run"] = json!("echo started\nsleep 10\nexit 3");
        if held {
            file.as_object_mut().unwrap().remove("on_failure");
        }
        let job = world.api.submit(&file).await;
        job.prints("started", PATIENCE).await;
        world.api.post(&format!("/jobs/{}/hold", job.id), &said).await;
        let done = job.reaches("failed", PATIENCE).await;
        let machines = done["hold"]["machines"].as_array().map_or(0, Vec::len);
        assert_eq!(machines, usize::from(held), "{said}: {done:#}");
        let url = format!("{}/api/v1/jobs/{}/hold", world.instance.url(), job.id);
        let token = format!("token {}", world.instance.admin_token);
        client().delete(url).header("Authorization", token).send().await.expect("an answer");
        executor.leaves_nothing(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_outlives_its_instance_and_ends_with_its_executor() {
    let mut world = World::new().await;
    let mut executor = world.executor("one", &[]).await;
    let job = world.api.submit(&failing("hold 10m")).await;
    job.reaches("failed", PATIENCE).await;
    let page = {
        let mut terminal = Terminal::open(&world, job.id).await;
        terminal.types("echo be''fore\r").await;
        terminal.shows("before\r\n").await;
        terminal.page
    };
    world.instance.program().kill();
    world.instance.start_again().await;
    let mut terminal = Terminal { world: &world, page, typed: "echo be''fore\r".len() };
    terminal.types("echo af''ter\r").await;
    terminal.shows("after\r\n").await;
    let printed = terminal.printed().await;
    let times = |text: &str| printed.matches(text).count();
    assert_eq!((times("before\r\n"), times("after\r\n")), (1, 1), "{printed}");

    executor.program().stop(Duration::from_secs(60)).await;
    assert_eq!(ended(&job).await, "executor_stopped");
    executor.leaves_nothing(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_time_is_over_by_the_limit_of_the_executor() {
    let world = World::new().await;
    let mut executor = world.executor("one", &[("EXECUTOR_MAXIMUM_HOLD", "3s")]).await;
    let job = world.api.submit(&failing("hold 1h")).await;
    job.reaches("failed", PATIENCE).await;
    let log = job.log().await;
    assert!(log.contains("1h0m0s were wished, EXECUTOR_MAXIMUM_HOLD"), "{log}");
    assert_eq!(ended(&job).await, "expired");
    executor.leaves_nothing(PATIENCE).await;
    // A held machine would keep it from ending.
    let status = executor.program().stop(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_dies_with_it_is_missed_and_the_next_one_tidies_up() {
    let world = World::new().await;
    let mut executor = world.executor("one", &[]).await;
    let job = world.api.submit(&failing("hold 10m")).await;
    job.reaches("failed", PATIENCE).await;
    let mut terminal = Terminal::open(&world, job.id).await;
    terminal.types("echo al''ive\r").await;
    terminal.shows("alive\r\n").await;

    executor.program().kill();
    assert!(!executor.run_dirs().is_empty(), "there is something to tidy up");
    assert_eq!(ended(&job).await, "executor_lost");
    let executor = world.executor("one", &[]).await;
    executor.leaves_nothing(Duration::from_secs(10)).await;
    assert_eq!(job.state().await, "failed", "the job itself stays what it was");
    assert!(terminal.printed().await.contains("alive"), "and so does the record");
}

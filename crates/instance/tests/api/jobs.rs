//! Submit, list, show, cancel, retry.

use protocol::Phase;
use reqwest::Method;

use crate::support::Instance;

pub const FILE: &str = "name: try\nsteps: [{name: a, image: alpine, run: 'true'}]\n";

#[tokio::test]
async fn a_job_from_submit_to_its_end() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let id = ada.submit(&instance, FILE).await;
    let job = ada.get(&instance, &format!("/jobs/{id}")).await.json();
    assert_eq!((job["state"].as_str(), job["creator"].as_str()), (Some("queued"), Some("ada")));
    assert_eq!(job["whyQueued"], "no executor has ever connected for this queue");

    let run = instance.run().await;
    instance.clock.advance_ms(50);
    run.phase(Phase::Preparing, 10).await;
    run.phase(Phase::Booting, 40).await;
    let entry = run.entry("step.docker.a").await;
    run.output(entry, 0, b"stdout: hi\n", Some(3)).await;
    run.fails(3).await;
    let job = ada.get(&instance, &format!("/jobs/{id}")).await.json();
    assert_eq!(job["state"], "failed");
    assert_eq!(job["reason"], "step_failed");
    assert_eq!(job["exitCode"], 3);
    assert_eq!(job["message"], "step 0 failed");
    assert_eq!(job["executor"], "exec-1");
    assert_eq!(job["attempt"], 1);
    assert_eq!(job["phases"][0]["phase"], "preparing");
    assert_eq!(job["phases"][0]["durationMs"], 30);
    assert_eq!(job["entries"][0]["key"], "step.docker.a");
    assert_eq!(job["entries"][0]["size"], 11);
    assert_eq!(job["usage"]["cpuMs"], 1500);
    assert!(job.get("whyQueued").is_none());
}

#[tokio::test]
async fn the_payload_is_what_an_executor_gets() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let file = serde_json::json!({
        "steps": [{ "image": "executors.internal/base:1", "run": "make\n", "env": { "A": "b" } }],
        "resources": { "cpus": 2 }, "timeout": "1m",
    });
    let answer = ada.json(&instance, Method::POST, "/jobs", file).await;
    assert_eq!(answer.status, 201);
    let id = answer.json()["id"].as_i64().unwrap();
    assert_eq!(answer.header("location"), format!("/api/v1/jobs/{id}"));
    let body = r#"{"executorName":"e","version":"5.1.0"}"#;
    let job = instance.shared("/.executors/queue/jobs/dequeue", body).await.json();
    assert_eq!(job["id"], id);
    let step = &job["dockerSteps"][0];
    assert_eq!(step["image"], "executors.internal/base:1");
    assert_eq!(step["commands"][0], "make");
    assert_eq!(step["env"][0], "A=b");
}

#[tokio::test]
async fn a_key_makes_a_repeated_submit_harmless() {
    let instance = Instance::start().await;
    let (ada, bob) = (instance.ada().await, instance.user("bob").await);
    let key = [("idempotency-key", "k1")];
    let first = ada.send(&instance, Method::POST, "/jobs", &key, FILE).await;
    let again = ada.send(&instance, Method::POST, "/jobs", &key, FILE).await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(again.json()["created"], false);
    let other = bob.send(&instance, Method::POST, "/jobs", &key, FILE).await;
    assert_ne!(other.json()["id"], first.json()["id"]);
    let long = "x".repeat(201);
    let bad = ada.send(&instance, Method::POST, "/jobs", &[("idempotency-key", &long)], FILE).await;
    assert_eq!((bad.status, bad.json()["error"]["field"].as_str()), (400, Some("Idempotency-Key")));
}

#[tokio::test]
async fn mistakes_are_named() {
    let instance = Instance::start().await;
    let bob = instance.user("bob").await;
    let bad = "steps: [{image: A, run: x}]\nqueue: batches\n";
    let answer = bob.send(&instance, Method::POST, "/jobs", &[], bad).await;
    assert_eq!(answer.status, 400);
    let error = &answer.json()["error"];
    assert_eq!(
        (error["code"].as_str(), error["field"].as_str()),
        (Some("invalid"), Some("steps[0].image"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("line 1, column 17") && message.contains("queue: other than jobs"),
        "{message}"
    );

    let unknown = "repository: no/such\nsteps: [{image: a, run: x}]\n";
    bob.send(&instance, Method::POST, "/jobs", &[], unknown).await.says(400, "not registered");
    bob.send(&instance, Method::POST, "/jobs", &[], vec![0xff]).await.says(400, "UTF-8");
    let large = vec![b' '; (4 << 20) + 1];
    bob.send(&instance, Method::POST, "/jobs", &[], large).await.says(413, "too_large");
}

#[tokio::test]
async fn one_user_cannot_fill_the_queue() {
    let instance = Instance::start().await;
    instance.configure("{ \"limits.queuedJobsPerUser\": 2 }");
    let (ada, bob) = (instance.ada().await, instance.user("bob").await);
    bob.submit(&instance, FILE).await;
    bob.submit(&instance, FILE).await;
    bob.send(&instance, Method::POST, "/jobs", &[], FILE).await.says(409, "2 jobs of yours");
    ada.submit(&instance, FILE).await;
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let instance = Instance::start().await;
    let (ada, bob) = (instance.ada().await, instance.user("bob").await);
    for _ in 0..3 {
        ada.submit(&instance, FILE).await;
    }
    let last = bob.submit(&instance, &FILE.replace("try", "other")).await;
    let ids = |answer: crate::support::Answer| -> Vec<i64> {
        let list = answer.json();
        list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect()
    };
    let first = ada.get(&instance, "/jobs?limit=2").await.json();
    assert_eq!(first["jobs"][0]["id"], last);
    let cursor = first["next"].as_str().unwrap();
    let second = ada.get(&instance, &format!("/jobs?limit=2&cursor={cursor}")).await;
    assert_eq!(ids(second).len(), 2);
    assert_eq!(ids(ada.get(&instance, "/jobs?creator=bob").await), [last]);
    assert_eq!(ids(ada.get(&instance, "/jobs?creator=nobody").await), [0; 0]);
    assert_eq!(ids(ada.get(&instance, "/jobs?state=failed").await), [0; 0]);
    assert_eq!(ids(ada.get(&instance, "/jobs?q=oTHer").await), [last]);
    // A search looks into messages, so users search their own jobs only.
    assert_eq!(ids(bob.get(&instance, "/jobs?q=try").await), [0; 0]);
    assert_eq!(ids(bob.get(&instance, "/jobs").await).len(), 4);
    ada.get(&instance, "/jobs?state=nope").await.says(400, "\"field\":\"state\"");
    ada.get(&instance, "/jobs?limit=0").await.says(400, "\"field\":\"limit\"");
    ada.get(&instance, "/jobs?limit=x").await.says(400, "bad_request");
    ada.get(&instance, "/jobs?cursor=x").await.says(400, "\"field\":\"cursor\"");
}

#[tokio::test]
async fn cancel_and_retry() {
    let instance = Instance::start().await;
    let ada = instance.ada().await;
    let id = ada.submit(&instance, FILE).await;
    let (cancel, retry) = (format!("/jobs/{id}/cancel"), format!("/jobs/{id}/retry"));
    ada.post(&instance, &retry).await.says(409, "queued");
    assert_eq!(ada.post(&instance, &cancel).await.json()["state"], "canceled");
    assert_eq!(ada.post(&instance, &cancel).await.status, 200);
    assert_eq!(ada.post(&instance, &retry).await.json()["state"], "queued");

    let run = instance.run().await;
    let running = ada.post(&instance, &cancel).await.json();
    assert_eq!(
        (running["state"].as_str(), running["cancelRequested"].as_bool()),
        (Some("processing"), Some(true))
    );
    run.completes().await;
    ada.post(&instance, &cancel).await.says(409, "completed");
    ada.post(&instance, "/jobs/999/cancel").await.says(404, "job not found");
    ada.post(&instance, "/jobs/x/cancel").await.says(404, "not_found");
}

#[tokio::test]
async fn what_a_job_produced_is_its_creators() {
    let instance = Instance::start().await;
    let (ada, bob, eve) =
        (instance.ada().await, instance.user("bob").await, instance.user("eve").await);
    let id = bob.submit(&instance, FILE).await;
    let run = instance.run().await;
    let entry = run.entry("step.docker.a").await;
    run.output(entry, 0, b"stdout: secret\n", Some(1)).await;
    run.artifact("out.txt", b"secret").await;
    run.fails(1).await;
    let job = format!("/jobs/{id}");
    for (person, sees) in [(&ada, true), (&bob, true), (&eve, false)] {
        let view = person.get(&instance, &job).await.json();
        assert_eq!(view["state"], "failed");
        assert_eq!(view["yours"], sees, "{}", person.name);
        assert_eq!(view["entries"].as_array().unwrap().len(), usize::from(sees));
        assert_eq!(view["artifacts"].as_array().unwrap().len(), usize::from(sees));
        assert_eq!(!view["message"].as_str().unwrap().is_empty(), sees);
        let expected = if sees { 200 } else { 403 };
        for path in ["/logs", "/artifacts", "/artifacts/out.txt"] {
            let answer = person.get(&instance, &format!("{job}{path}")).await;
            assert_eq!(answer.status, expected, "{} {path}", person.name);
            assert_eq!(answer.text().contains("secret"), sees && path != "/artifacts");
        }
    }
    eve.post(&instance, &format!("{job}/retry")).await.says(403, "creator");
    assert_eq!(bob.post(&instance, &format!("{job}/retry")).await.status, 200);
}

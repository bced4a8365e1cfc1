//! Asking for a job, and the document that is handed out.

use serde_json::json;

use crate::scripted::{COMMIT, EMPTY, new_job};
use crate::support::Instance;

const ONE: &str = "/.executors/queue/batches/dequeue";
const MULTI: &str = "/.executors/queue/dequeue";

#[tokio::test]
async fn nothing_to_do_is_no_content() {
    let instance = Instance::start().await;
    instance.shared(ONE, r#"{"executorName":"e"}"#).await.is(204, "");
    let body = r#"{"executorName":"e","queues":["codeintel","batches","jobs"]}"#;
    let answer = instance.shared(MULTI, body).await;
    answer.is(204, "");
    assert_eq!(answer.header("x-executor-extensions"), "");
    assert_eq!(answer.header("preference-applied"), "");
    instance.shared(MULTI, r#"{"executorName":"e","queues":[]}"#).await.is(204, "");
    instance.shared(MULTI, r#"{"executorName":"e","queues":null}"#).await.is(204, "");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_so() {
    let instance = Instance::start().await;
    for path in [ONE, MULTI] {
        for bad in ["{", "", "[]", r#"{"executorName":7}"#] {
            let answer = instance.shared(path, bad).await;
            answer.says(400, "Failed to unmarshal payload: ");
            assert!(answer.text().ends_with('\n'));
        }
        let empty = r#"{"error":"worker hostname cannot be empty"}"#;
        instance.shared(path, "{}").await.is(500, empty);
        instance.shared(path, r#"{"executorName":""} trailing"#).await.is(500, empty);
        let version = r#"{"executorName":"e","version":"abc","unknown":1}"#;
        let wanted = r#"{"error":"failed to check version \"abc\": Invalid Semantic Version"}"#;
        instance.shared(path, version).await.is(500, wanted);
    }
    let body = r#"{"executorName":"e","queues":["nope","jobs","x"]}"#;
    let wanted = r#"{"error":"Invalid queue name(s) 'nope, x' found. Supported queue names are 'batches, codeintel, jobs'."}"#;
    instance.shared(MULTI, body).await.is(500, wanted);
    let large = format!(r#"{{"executorName":"e","x":"{}"}}"#, "x".repeat(300 << 10));
    assert_eq!(instance.shared(ONE, &large).await.status, 413);
}

#[tokio::test]
async fn an_empty_job_has_the_nulls_of_the_original() {
    let instance = Instance::start().await;
    let mut documents = Vec::new();
    for (path, body) in [
        (
            ONE,
            r#"{"executorName":"e","version":"4.2.0","numCPUs":4,"memory":"12G","diskSpace":"20G"}"#,
        ),
        (ONE, r#"{"executorName":"e"}"#),
        (ONE, r#"{"executorName":"e","version":"5.1.0"}"#),
        (MULTI, r#"{"executorName":"e","version":"5.1.0","queues":["batches"]}"#),
    ] {
        instance.enqueue(&new_job("batches", "", EMPTY)).await;
        let answer = instance.shared(path, body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        let mut document = answer.json();
        let token = document["token"].take();
        let token = token.as_str().unwrap();
        assert!(token.len() == 40 && token.bytes().all(|b| b.is_ascii_hexdigit()));
        documents.push(document);
    }
    let v1 = |id: i64| {
        json!({"id":id,"token":null,"repositoryName":"","repositoryDirectory":"","commit":"",
            "fetchTags":false,"shallowClone":false,"sparseCheckout":null,"files":{},
            "dockerSteps":null,"cliSteps":null,"redactedValues":null})
    };
    let v2 = |id: i64| {
        let mut document = v1(id);
        document["version"] = json!(2);
        document["dockerAuthConfig"] = json!({});
        document
    };
    let mut multi = v2(4);
    multi["queue"] = json!("batches");
    assert_eq!(documents, [v1(1), v1(2), v2(3), multi]);
}

const FULL: &str = r#"{"version":2,"repositoryDirectory":"","fetchTags":false,"shallowClone":true,
  "sparseCheckout":["svc/*"],
  "files":{"a.txt":{"content":"aGk=","modifiedAt":"0001-01-01T00:00:00Z"},
    "b/c.sh":{"bucket":"batch-changes","key":"SpEc1/FiLe2","modifiedAt":"2023-01-02T03:04:05Z"}},
  "dockerSteps":[{"key":"pre-index.0","image":"alpine:3","commands":["ls"],"dir":"","env":["A=B"]}],
  "cliSteps":[{"key":"x","command":["version"],"dir":".","env":[]}],
  "redactedValues":{"s3cret":"${{ secrets.K }}"},
  "dockerAuthConfig":{"auths":{"reg.example":{"auth":"dTpw"}}},
  "extensions":{"vcpus":2,"memoryMib":1024,"artifacts":["out/**"]}}"#;

#[tokio::test]
async fn a_full_job_is_handed_out_in_both_formats() {
    let instance = Instance::start().await;
    instance.enqueue(&new_job("codeintel", "git.example/acme/app", FULL)).await;
    instance.enqueue(&new_job("codeintel", "git.example/acme/app", FULL)).await;
    let path = "/.executors/queue/codeintel/dequeue";
    let mut v2 =
        instance.shared(path, r#"{"executorName":"e","version":"dev","numCPUs":8}"#).await.json();
    let mut v1 = instance.shared(path, r#"{"executorName":"e","version":"4.2.0","numCPUs":8,"memory":"12GB","diskSpace":"20G"}"#).await.json();
    v2["token"].take();
    v1["token"].take();
    let mut wanted: serde_json::Value = serde_json::from_str(FULL).unwrap();
    wanted.as_object_mut().unwrap().remove("extensions");
    wanted["id"] = json!(1);
    wanted["token"] = json!(null);
    wanted["repositoryName"] = json!("git.example/acme/app");
    wanted["commit"] = json!(COMMIT);
    wanted["dockerSteps"][0]["env"] = json!([
        "A=B",
        "VM_CPUS=8",
        "VM_MEM=12.0 GB",
        "VM_MEM_GB=12",
        "VM_MEM_MB=12288",
        "VM_DISK=20.0 GB",
        "VM_DISK_GB=20",
        "VM_DISK_MB=20480"
    ]);
    assert_eq!(v2, wanted);
    wanted.as_object_mut().unwrap().remove("version");
    wanted.as_object_mut().unwrap().remove("dockerAuthConfig");
    wanted["id"] = json!(2);
    wanted["files"]["a.txt"]["content"] = json!("hi");
    assert_eq!(v1, wanted);
}

#[tokio::test]
async fn our_own_executor_gets_the_extensions_and_always_v2() {
    let instance = Instance::start().await;
    instance.enqueue(&new_job("jobs", "", FULL)).await;
    let authorization = format!("token-executor {}", crate::support::SHARED);
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-executor-extensions", "phases, append-logs, teleport"),
    ];
    let body = r#"{"executorName":"e","version":"0.1.0"}"#;
    let path = "/.executors/queue/jobs/dequeue";
    let answer = instance.call(reqwest::Method::POST, path, &headers, body).await;
    assert_eq!(answer.header("x-executor-extensions"), "append-logs, phases");
    let document = answer.json();
    assert_eq!(document["version"], 2);
    let extensions = &document["extensions"];
    assert_eq!((&extensions["attempt"], &extensions["vcpus"]), (&json!(1), &json!(2)));
    assert_eq!(extensions["artifacts"], json!(["out/**"]));
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_fails_its_job() {
    let instance = Instance::start().await;
    let bad = r#"{"version":2,"files":{"a":{"content":"***"}}}"#;
    let (a, b) = (
        instance.enqueue(&new_job("batches", "", bad)).await,
        instance.enqueue(&new_job("batches", "", bad)).await,
    );
    let answer = instance.shared(ONE, r#"{"executorName":"e"}"#).await;
    answer.says(500, r#"{"error":"RecordTransformer: "#);
    let body = r#"{"executorName":"e","queues":["batches"]}"#;
    instance.shared(MULTI, body).await.says(500, r#"{"error":"RecordTransformer batches: "#);
    for id in [a, b] {
        let job = instance.app.store.job(id).await.unwrap().unwrap();
        assert_eq!(job.state.to_string(), "failed");
        assert!(job.message.starts_with("failed to transform record: "), "{}", job.message);
    }
}

#[tokio::test]
async fn a_draining_executor_gets_nothing() {
    let instance = Instance::start().await;
    instance.shared("/.executors/queue/jobs/heartbeat", r#"{"executorName":"e"}"#).await;
    instance.enqueue(&new_job("jobs", "", EMPTY)).await;
    let path = "/.executors/queue/jobs/dequeue";
    instance.app.store.set_drain("e", true).await.unwrap();
    instance.shared(path, r#"{"executorName":"e"}"#).await.is(204, "");
    instance.app.store.set_drain("e", false).await.unwrap();
    assert_eq!(instance.shared(path, r#"{"executorName":"e"}"#).await.status, 200);
}

//! Uploads of code-intelligence indexes.

use reqwest::Method;
use store::{NewRepository, UploadState};

use crate::scripted::COMMIT;
use crate::support::{Answer, Instance, SHARED};

const REPOSITORY: &str = "git.example/acme/app";

async fn start() -> Instance {
    let instance = Instance::start().await;
    let new = NewRepository { name: REPOSITORY.into(), ..NewRepository::default() };
    instance.app.store.add_repository(&new, 0).await.unwrap();
    instance
}

async fn post(instance: &Instance, query: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let authorization = format!("token-executor {SHARED}");
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend(headers);
    let path = format!("/.executors/scip/upload?{query}");
    instance.call(Method::POST, &path, &all, body.to_owned()).await
}

#[tokio::test]
async fn an_index_in_one_piece() {
    let instance = start().await;
    let query = format!(
        "repository={REPOSITORY}&commit={COMMIT}&root=cmd/&indexerName=scip-go&associatedIndexId=8"
    );
    post(&instance, &query, &[("x-uncompressed-size", "99")], "data")
        .await
        .is(202, r#"{"id":"1"}"#);
    let upload = instance.app.store.upload(1).await.unwrap().unwrap();
    assert_eq!(upload.state, UploadState::Queued);
    assert_eq!((upload.new.root.as_str(), upload.new.indexer.as_str()), ("cmd/", "scip-go"));
    assert_eq!((upload.new.job_id, upload.new.uncompressed_size), (Some(8), Some(99)));
    assert_eq!(upload.new.content_type, "application/x-ndjson+lsif");
    let parts = instance.app.store.upload_parts(1).await.unwrap();
    let file = instance.data_dir().join("blobs").join(&parts[0].blob_key);
    assert_eq!(std::fs::read(file).unwrap(), b"data");
    let lsif = format!("/.executors/lsif/upload?{query}");
    instance.shared(&lsif, "data").await.is(202, r#"{"id":"2"}"#);
}

#[tokio::test]
async fn an_index_in_parts() {
    let instance = start().await;
    let query = format!("repository={REPOSITORY}&commit={COMMIT}&multiPart=true&numParts=2");
    post(&instance, &query, &[], "").await.is(202, r#"{"id":"1"}"#);
    let begun = async |query: &str| post(&instance, query, &[], "part").await;
    begun("uploadId=1&index=0").await.is(204, "");
    let missing = "failed to enqueue payload: upload is missing 1 parts\n";
    begun("uploadId=1&done=true").await.is(400, missing);
    begun("uploadId=1&index=2").await.says(400, "failed to enqueue payload: index 2");
    begun("uploadId=1&index=x").await.says(400, "failed to enqueue payload: index x");
    begun("uploadId=1&index=0").await.is(204, "");
    begun("uploadId=1&index=1").await.is(204, "");
    begun("uploadId=1&done=true").await.is(204, "");
    begun("uploadId=1&done=true").await.is(204, "");
    let none = "failed to enqueue payload: unprocessable request: missing expected query arguments (uploadId, index, or done)\n";
    begun("uploadId=1").await.is(400, none);
    begun("uploadId=7&done=true").await.is(404, "failed to enqueue payload: upload not found\n");
    begun("uploadId=x&index=0").await.is(404, "failed to enqueue payload: upload not found\n");
    let upload = instance.app.store.upload(1).await.unwrap().unwrap();
    assert_eq!(upload.state, UploadState::Queued);
}

#[tokio::test]
async fn what_is_wrong_is_said_so() {
    let instance = start().await;
    let bad = format!("repository={REPOSITORY}&commit=main");
    let wanted = "failed to enqueue payload: commit must be a 40-character revhash\n";
    post(&instance, &bad, &[], "").await.is(400, wanted);
    let unknown = format!("repository=x&commit={COMMIT}");
    let wanted = "failed to enqueue payload: unknown repository \"x\"\n";
    post(&instance, &unknown, &[], "").await.is(404, wanted);
    let good = format!("repository={REPOSITORY}&commit={COMMIT}");
    let headers = [("x-uncompressed-size", "big")];
    assert_eq!(post(&instance, &good, &headers, "").await.status, 422);
    let parts = format!("{good}&multiPart=true&numParts=0");
    post(&instance, &parts, &[], "").await.says(400, "numParts");
    instance.configure(&format!(
        r#"{{ "executors.accessToken": "{SHARED}", "limits.uploadSize": "1M" }}"#
    ));
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(post(&instance, &good, &[], &large).await.status, 413);
    let head = "/.executors/scip/upload";
    let shared = format!("token-executor {SHARED}");
    let probe = instance.call(Method::HEAD, head, &[("authorization", &shared)], "").await;
    assert_eq!((probe.status, probe.body.len()), (200, 0));
}

#[tokio::test]
async fn a_jobs_own_token_uploads_to_its_repository_only() {
    let instance = start().await;
    let new = NewRepository { name: "other".into(), ..NewRepository::default() };
    instance.app.store.add_repository(&new, 0).await.unwrap();
    let held = instance.held("codeintel", REPOSITORY).await;
    let to = |repository: &str| {
        format!("/.executors/scip/upload?repository={repository}&commit={COMMIT}")
    };
    let answer = instance.with_token(Method::POST, &held, &to(REPOSITORY), "data").await;
    answer.is(202, r#"{"id":"1"}"#);
    let upload = instance.app.store.upload(1).await.unwrap().unwrap();
    assert_eq!(upload.new.job_id, Some(held.id));
    let answer = instance.with_token(Method::POST, &held, &to("other"), "data").await;
    answer.is(403, "invalid token\n");
    let answer = instance.with_token(Method::HEAD, &held, "/.executors/scip/upload", "").await;
    assert_eq!(answer.status, 200);
}

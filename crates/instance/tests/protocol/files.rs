//! Files of a batch spec.

use instance::blobs::BlobKey;
use reqwest::Method;
use store::WorkspaceFile;

use crate::support::Instance;

#[tokio::test]
async fn a_file_is_handed_out_by_spec_and_id() {
    let instance = Instance::start().await;
    let key = BlobKey::unique("files", "SpEc1");
    let mut writer = instance.app.blobs.create(100).await.unwrap();
    writer.write(b"#!/bin/sh\n\xff").await.unwrap();
    writer.publish(&key).await.unwrap();
    let file = WorkspaceFile {
        file_id: "FiLe2".into(),
        spec_id: "SpEc1".into(),
        path: "t".into(),
        name: "gen.sh".into(),
        size: 11,
        blob_key: key.as_str().into(),
        modified_at: 0,
    };
    instance.app.store.put_workspace_file(&file).await.unwrap();
    let held = instance.held("batches", "").await;
    let path = "/.executors/files/batch-changes/SpEc1/FiLe2";
    let answer = instance.with_token(Method::GET, &held, path, "").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"#!/bin/sh\n\xff"[..]));
    let head = instance.with_token(Method::HEAD, &held, path, "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "11", 0));
    for unknown in ["SpEc1/nope", "other/FiLe2"] {
        let path = format!("/.executors/files/batch-changes/{unknown}");
        let answer = instance.with_token(Method::GET, &held, &path, "").await;
        answer.is(404, "workspace file does not exist\n");
    }
    instance.call(Method::GET, path, &[], "").await.says(401, "no token value");
}

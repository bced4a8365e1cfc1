//! Code-intelligence uploads and workspace files.

use store::{Error, NewUpload, UploadPart, UploadState, WorkspaceFile};

use crate::contract;
use crate::db::T0;

fn new(num_parts: i64) -> NewUpload {
    NewUpload {
        repository: "example/app".into(),
        commit: "4b825dc642cb6eb9a060e54bf8d69288fbee4904".into(),
        root: "cmd/".into(),
        indexer: "scip-go".into(),
        indexer_version: "1.0".into(),
        content_type: "application/x-protobuf+scip".into(),
        uncompressed_size: Some(5_000_000_000),
        num_parts,
        job_id: Some(8),
    }
}

fn part(part: i64, key: &str) -> UploadPart {
    UploadPart { part, size: 10, blob_key: key.into() }
}

contract! {
    async fn an_upload_is_complete_when_all_parts_are_there(db) {
        let id = db.create_upload(&new(2), T0).await.unwrap();
        let upload = db.upload(id).await.unwrap().unwrap();
        assert_eq!((upload.state, upload.created_at), (UploadState::Uploading, T0));
        assert_eq!(upload.new, new(2));
        db.put_upload_part(id, &part(1, "p1")).await.unwrap();
        assert_eq!(db.finish_upload(id, T0 + 1).await.unwrap(), 1);
        for wrong in [-1, 2] {
            let refused = db.put_upload_part(id, &part(wrong, "x")).await;
            assert!(matches!(refused, Err(Error::Invalid { field: "index", .. })));
        }
        db.put_upload_part(id, &part(0, "p0")).await.unwrap();
        db.put_upload_part(id, &part(0, "p0-again")).await.unwrap();
        assert_eq!(db.upload_parts(id).await.unwrap(), [part(0, "p0-again"), part(1, "p1")]);
        assert_eq!(db.doomed_blobs(9).await.unwrap(), ["p0"]);
        assert_eq!(db.finish_upload(id, T0 + 2).await.unwrap(), 0);
        assert_eq!(db.finish_upload(id, T0 + 3).await.unwrap(), 0);
        let upload = db.upload(id).await.unwrap().unwrap();
        assert_eq!((upload.state, upload.finished_at), (UploadState::Queued, Some(T0 + 2)));
        let late = db.put_upload_part(id, &part(0, "x")).await;
        assert!(matches!(late, Err(Error::NotFound { .. })));
        assert!(matches!(db.finish_upload(999, T0).await, Err(Error::NotFound { .. })));
        assert_eq!(db.upload(999).await.unwrap(), None);
        let second = db.create_upload(&new(1), T0).await.unwrap();
        let listed = db.uploads("example/app", 10).await.unwrap();
        assert_eq!(listed.iter().map(|upload| upload.id).collect::<Vec<_>>(), [second, id]);
        assert!(db.uploads("other", 10).await.unwrap().is_empty());
    }

    async fn workspace_files_are_found_by_id_and_by_spec(db) {
        let file = |file_id: &str, name: &str| WorkspaceFile {
            file_id: file_id.into(),
            spec_id: "spec".into(),
            path: "scripts".into(),
            name: name.into(),
            size: 3,
            blob_key: format!("files/{file_id}"),
            modified_at: T0,
        };
        db.put_workspace_file(&file("f1", "b.sh")).await.unwrap();
        db.put_workspace_file(&file("f2", "a.sh")).await.unwrap();
        db.put_workspace_file(&file("f1", "c.sh")).await.unwrap();
        assert_eq!(db.workspace_file("f1").await.unwrap(), Some(file("f1", "c.sh")));
        assert_eq!(db.workspace_file("f3").await.unwrap(), None);
        let files = db.workspace_files("spec").await.unwrap();
        assert_eq!(files, [file("f2", "a.sh"), file("f1", "c.sh")]);
        assert!(db.workspace_files("other").await.unwrap().is_empty());
    }
}

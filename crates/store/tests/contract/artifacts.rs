//! Results and artifacts.

use store::Artifact;

use crate::contract;
use crate::db::{T0, lease};

fn artifact(path: &str, blob_key: &str) -> Artifact {
    Artifact {
        path: path.into(),
        size: 5_000_000_000,
        sha256: "ab".repeat(32),
        blob_key: blob_key.into(),
        at: T0,
    }
}

contract! {
    async fn a_result_of_the_same_kind_and_name_replaces(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        for (name, value) in [("b", 1), ("a", 2), ("b", 3)] {
            let value = serde_json::json!({ "n": value });
            db.put_result(&lease, "step-result", name, &value, T0 + 1).await.unwrap();
        }
        let results = db.results(claim.job.id, 1).await.unwrap();
        let got: Vec<_> = results.iter().map(|r| (r.name.as_str(), r.value.as_str())).collect();
        assert_eq!(got, [("a", r#"{"n":2}"#), ("b", r#"{"n":3}"#)]);
        assert!(results.iter().all(|r| r.kind == "step-result" && r.at == T0 + 1));
        assert!(db.results(claim.job.id, 2).await.unwrap().is_empty());
    }

    async fn a_replaced_artifact_dooms_its_blob(db) {
        let claim = db.running(T0).await;
        let (id, lease) = (claim.job.id, lease(&claim));
        db.put_artifact(&lease, &artifact("out/b", "blob-1"), T0).await.unwrap();
        db.put_artifact(&lease, &artifact("out/a", "blob-2"), T0).await.unwrap();
        assert!(db.doomed_blobs(10).await.unwrap().is_empty());
        db.put_artifact(&lease, &artifact("out/b", "blob-3"), T0 + 1).await.unwrap();
        assert_eq!(db.doomed_blobs(10).await.unwrap(), ["blob-1"]);
        let paths: Vec<String> =
            db.artifacts(id, 1).await.unwrap().into_iter().map(|a| a.path).collect();
        assert_eq!(paths, ["out/a", "out/b"]);
        let expected = artifact("out/b", "blob-3");
        assert_eq!(db.artifact(id, 1, "out/b").await.unwrap(), Some(expected));
        assert_eq!(db.artifact(id, 1, "out/c").await.unwrap(), None);
        let foreign = store::Lease { executor: "exec-2", ..lease };
        let refused = db.put_artifact(&foreign, &artifact("x", "blob-4"), T0).await;
        assert!(matches!(refused, Err(store::Error::UnknownJob)));
    }
}

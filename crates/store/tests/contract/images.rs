//! The instance's own image registry.

use store::{Error, ImageObject, ObjectKind};

use crate::contract;
use crate::db::{Db, T0};

fn object(digest: &str, kind: ObjectKind) -> ImageObject {
    ImageObject {
        digest: digest.into(),
        kind,
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size: 1234,
        blob_key: format!("images/{digest}"),
        created_at: T0,
    }
}

async fn import(db: &Db, manifest: &str, layers: &[&str]) {
    for layer in layers {
        db.put_image_object(&object(layer, ObjectKind::Blob), &[]).await.unwrap();
    }
    let children: Vec<String> = layers.iter().map(|layer| (*layer).to_owned()).collect();
    db.put_image_object(&object(manifest, ObjectKind::Manifest), &children).await.unwrap();
}

contract! {
    async fn a_tag_leads_to_a_manifest(db) {
        import(db, "sha256:m1", &["sha256:l1", "sha256:l2"]).await;
        import(db, "sha256:m1", &["sha256:l1"]).await;
        db.set_image_tag("base", "1", "sha256:m1", T0).await.unwrap();
        let expected = object("sha256:m1", ObjectKind::Manifest);
        assert_eq!(db.image_tag("base", "1").await.unwrap().unwrap(), expected.digest);
        assert_eq!(db.image_object("sha256:m1").await.unwrap(), Some(expected));
        assert_eq!(db.image_object("sha256:l1").await.unwrap().unwrap().kind, ObjectKind::Blob);
        assert_eq!(db.image_object("sha256:x").await.unwrap(), None);
        assert_eq!(db.image_tag("base", "2").await.unwrap(), None);
        let dangling = db.set_image_tag("base", "1", "sha256:x", T0).await;
        assert!(matches!(dangling, Err(Error::NotFound { .. })));
        let torn = object("sha256:m2", ObjectKind::Manifest);
        let torn = db.put_image_object(&torn, &["sha256:x".to_owned()]).await;
        assert!(matches!(torn, Err(Error::NotFound { .. })));
        assert_eq!(db.image_object("sha256:m2").await.unwrap(), None, "all or nothing");
    }

    async fn what_no_tag_reaches_is_swept_and_shared_layers_stay(db) {
        import(db, "sha256:m1", &["sha256:shared", "sha256:l1"]).await;
        import(db, "sha256:m2", &["sha256:shared", "sha256:l2"]).await;
        db.set_image_tag("a", "1", "sha256:m1", T0).await.unwrap();
        db.set_image_tag("b", "1", "sha256:m2", T0 + 1).await.unwrap();
        let tags = db.image_tags().await.unwrap();
        assert_eq!((tags.len(), tags[1].updated_at), (2, T0 + 1));
        assert_eq!(db.sweep_image_objects(T0 + 1, T0).await.unwrap(), 0);
        assert!(db.delete_image_tag("a", "1").await.unwrap());
        assert!(!db.delete_image_tag("a", "1").await.unwrap());
        assert_eq!(db.sweep_image_objects(T0, T0).await.unwrap(), 0, "too young");
        assert_eq!(db.sweep_image_objects(T0 + 1, T0).await.unwrap(), 2);
        let doomed = db.doomed_blobs(10).await.unwrap();
        assert_eq!(doomed, ["images/sha256:l1", "images/sha256:m1"]);
        assert!(db.image_object("sha256:shared").await.unwrap().is_some());
        db.set_image_tag("b", "1", "sha256:m2", T0 + 9).await.unwrap();
        assert_eq!(db.image_tags().await.unwrap()[0].updated_at, T0 + 9);
    }
}

//! Pulling: references, platforms, errors, mirrors, credentials.

use std::sync::{Arc, Mutex};

use microvm::images::{Credentials, ErrorKind, ImageRequest, Login, Phase, Progress};
use serde_json::json;

use crate::registry::{
    Registry, gzip, layer, manifest, noise, open, quick, read_file, request, silent,
};

#[tokio::test]
async fn an_image_is_pulled_merged_and_then_comes_from_the_cache() {
    let registry = Registry::open().await;
    let lower = layer(&[("etc/a", b"lower"), ("etc/gone", b"x")]);
    let upper = layer(&[("etc/a", b"upper"), ("etc/.wh.gone", b""), ("bin/tool", &noise(3 << 20))]);
    let digest = registry.push("team/app", "1.0", &[lower, upper]).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), quick());
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let progress = {
        let seen = Arc::clone(&seen);
        Arc::new(move |progress| seen.lock().unwrap().push(progress))
    };
    let reference = format!("{}/team/app:1.0", registry.host);
    let image = store.get(&request(&reference), progress).await.unwrap();
    assert_eq!(image.manifest_digest, digest);
    assert_eq!(image.config.env, ["PATH=/bin", "A=b"]);
    assert_eq!((image.config.user.as_str(), image.config.workdir.as_str()), ("1000:1000", "/w"));
    assert_eq!((image.config.entrypoint.len(), image.config.cmd.len()), (1, 1));
    assert_eq!(read_file(&image.squashfs, "etc/a").unwrap(), b"upper");
    assert_eq!(read_file(&image.squashfs, "bin/tool").unwrap(), noise(3 << 20));
    assert_eq!(read_file(&image.squashfs, "etc/gone"), None);
    assert_eq!(std::fs::metadata(&image.squashfs).unwrap().len(), image.size);

    let phases: Vec<Phase> = seen.lock().unwrap().iter().map(|p| p.phase).collect();
    for phase in [Phase::Resolving, Phase::Downloading, Phase::Merging, Phase::Writing] {
        assert!(phases.contains(&phase), "{phase:?} in {phases:?}");
    }
    let last = *seen.lock().unwrap().iter().rfind(|p| p.phase == Phase::Downloading).unwrap();
    assert!(last.done == last.total && last.total > 3 << 20, "{last:?}");

    seen.lock().unwrap().clear();
    let progress = {
        let seen = Arc::clone(&seen);
        Arc::new(move |progress| seen.lock().unwrap().push(progress))
    };
    let again = store
        .get(&request(format!("{}/team/app@{digest}", registry.host)), progress)
        .await
        .unwrap();
    assert_eq!(again.squashfs, image.squashfs);
    assert_eq!(seen.lock().unwrap().len(), 1, "only the registry is asked");
}

//! The images of all steps, fetched side by side, each with a log entry of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use microvm::images::{
    Credentials, Image, ImageRequest, ImageStore, InstanceRegistry, Login, Phase, Progress,
    ProgressFn,
};
use protocol::{DockerAuthConfig, Job};

use super::failure::Failure;
use crate::client::JobClient;
use crate::config::Config;
use crate::logs::{JobLog, LogWriter, Stream};

/// Fetches `references`; the answer has them in the same order.
pub(super) async fn fetch(
    store: &ImageStore,
    references: &[String],
    job: &Job,
    config: &Config,
    client: &JobClient,
    log: &JobLog,
) -> Result<Vec<Image>, Failure> {
    let auth = match job.docker_auth_config.auths.is_empty() {
        true => &config.docker_auth,
        false => &job.docker_auth_config,
    };
    let base = client.instance().base().as_str().trim_end_matches('/').to_owned();
    let template = ImageRequest {
        credentials: credentials(auth),
        mirrors: config.registry_mirrors.clone(),
        instance_registry: Some(InstanceRegistry {
            base_url: base,
            authorization: client.authorization().expose().to_owned(),
        }),
        ..ImageRequest::default()
    };
    try_join_all(references.iter().enumerate().map(|(index, reference)| {
        let request = ImageRequest { reference: reference.clone(), ..template.clone() };
        fetch_one(store, index, request, log)
    }))
    .await
}

async fn fetch_one(
    store: &ImageStore,
    index: usize,
    request: ImageRequest,
    log: &JobLog,
) -> Result<Image, Failure> {
    let command = ["pull", &request.reference].map(str::to_owned);
    let entry = log.entry(&format!("setup.image.{index}"), Some(&command))?;
    let shown = Arc::new(Mutex::new(Some(entry)));
    let result = store.get(&request, progress_to(&shown)).await;
    let entry = shown.lock().expect("no panic while held").take();
    let mut entry = entry.expect("nobody else takes it");
    match result {
        Ok(image) => {
            say(&mut entry, &format!("{} ({} MiB)", image.manifest_digest, image.size >> 20));
            entry.close(0);
            Ok(image)
        }
        Err(error) => {
            say(&mut entry, &error.to_string());
            entry.close(1);
            Err(error.into())
        }
    }
}

/// A line for each phase, and one for each tenth of a phase with a known size.
///
/// The store may still call when the request is over: the entry is gone then, with the request.
fn progress_to(entry: &Arc<Mutex<Option<LogWriter>>>) -> ProgressFn {
    let entry = Arc::downgrade(entry);
    let said = AtomicU64::new(u64::MAX);
    Arc::new(move |progress: Progress| {
        let tenth = (progress.done * 10).checked_div(progress.total).unwrap_or(0).min(10);
        let point = progress.phase as u64 * 16 + tenth;
        if said.swap(point, Ordering::Relaxed) == point {
            return;
        }
        let Some(entry) = entry.upgrade() else { return };
        if let Some(entry) = entry.lock().expect("no panic while held").as_mut() {
            say(entry, &describe(progress));
        }
    })
}

fn describe(progress: Progress) -> String {
    let verb = match progress.phase {
        Phase::Resolving => "asking the registry",
        Phase::Waiting => "another job is already fetching it",
        Phase::Downloading => "downloading",
        Phase::Merging => "merging layers",
        Phase::Writing => "writing",
    };
    match progress.total {
        0 => verb.to_owned(),
        total => format!("{verb}: {} of {} MiB", progress.done >> 20, total.div_ceil(1 << 20)),
    }
}

fn say(entry: &mut LogWriter, line: &str) {
    // An entry over the output limit ends the job when a step writes next.
    let _ = entry.output(Stream::Stderr, format!("{line}\n").as_bytes());
}

/// Values that cannot be read were refused with the job document, or at start.
fn credentials(config: &DockerAuthConfig) -> Credentials {
    config
        .auths
        .iter()
        .filter_map(|(host, auth)| {
            let (user, password) = auth.credentials()?;
            Some((host, Login { user, password }))
        })
        .collect()
}

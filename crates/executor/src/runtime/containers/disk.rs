//! What a job's containers write. Engines seldom limit that themselves: somebody looks every now and then.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::engine::Container;

/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// A look may take this share of the time.
const SHARE: u32 = 10;
/// Kept free on the disk of the executor, whoever wants it: without it nobody's job works.
const RESERVE: u64 = 512 << 20;

/// Looks at the disk as long as it lives.
#[derive(Debug)]
pub(super) struct DiskWatch {
    state: watch::Sender<State>,
    task: AbortHandle,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Bytes that were in use when last looked.
    used: u64,
    full: bool,
    /// The step that runs; what it writes to its own root counts.
    step: Option<Container>,
}

impl DiskWatch {
    /// `limit` in bytes, for the workspace and the root of the running step together.
    pub(super) fn start(workspace: PathBuf, limit: u64) -> Self {
        let state = watch::Sender::new(State::default());
        let task = tokio::spawn(look(workspace, limit, state.clone())).abort_handle();
        Self { state, task }
    }

    /// From now on the root of this step counts.
    pub(super) fn step(&self, step: Option<Container>) {
        self.state.send_modify(|state| state.step = step);
    }

    /// Bytes in use when last looked.
    pub(super) fn used(&self) -> u64 {
        self.state.borrow().used
    }

    /// Told as soon as the limit is exceeded.
    pub(super) fn full(&self) -> Full {
        Full(self.state.subscribe())
    }
}

impl Drop for DiskWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for a full disk.
#[derive(Debug)]
pub(super) struct Full(watch::Receiver<State>);

impl Full {
    /// Never returns if the disk does not fill. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        if self.0.wait_for(|state| state.full).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn look(workspace: PathBuf, limit: u64, state: watch::Sender<State>) {
    loop {
        let began = Instant::now();
        let dir = workspace.clone();
        let in_workspace = tokio::task::spawn_blocking(move || bytes_below(&dir, limit)).await;
        let step = state.borrow().step.clone();
        let in_root = match step {
            Some(step) => step.inspect(true).await.ok().and_then(|found| found.size_rw),
            None => None,
        };
        let in_root = in_root.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        let used = in_workspace.unwrap_or(0).saturating_add(in_root);
        let full = used > limit || free(&workspace).is_some_and(|bytes| bytes < RESERVE);
        state.send_modify(|state| {
            state.used = used;
            state.full = full;
        });
        tokio::time::sleep(PAUSE.max(began.elapsed() * SHARE)).await;
    }
}

fn free(dir: &Path) -> Option<u64> {
    statvfs(dir).ok().map(|stat| stat.blocks_available() * stat.fragment_size())
}

/// Bytes on disk below `dir`, no link followed; stops counting at twice the limit.
fn bytes_below(dir: &Path, limit: u64) -> u64 {
    let mut bytes = 0_u64;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        // Files come and go while we look.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(metadata.blocks() * 512);
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
        if bytes > limit.saturating_mul(2) {
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_and_links_do_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![1; 100_000]).unwrap();
        let sparse = std::fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("link")).unwrap();
        let bytes = bytes_below(dir.path(), 1 << 30);
        assert!((100_000..1_000_000).contains(&bytes), "{bytes}");
    }
}

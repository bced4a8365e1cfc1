//! Disk, memory and caches of this machine.

use std::path::Path;

use executor::config::Config;
use executor::state::{StateError, StateLock};
use nix::sys::statvfs::statvfs;

use super::{Check, Finding, check};

const GIB: u64 = 1 << 30;

pub(super) fn checks(config: &Config) -> Vec<Check> {
    vec![
        check("state directory", state_dir(config)),
        check("image cache", writable(&config.state_dir.join("images"))),
        check("repository cache", writable(&config.state_dir.join("repositories"))),
        check("disk space", disk_space(config)),
        check("memory", memory(config)),
    ]
}

fn state_dir(config: &Config) -> Finding {
    let dir = config.state_dir.display();
    match StateLock::take(&config.state_dir) {
        Ok(_lock) => Finding::Ok(format!("{dir} is free")),
        Err(StateError::Locked(_)) => Finding::warning(
            format!("an executor is running in {dir}"),
            "stop it before you start another there",
        ),
        Err(error) => Finding::error(
            error.to_string(),
            "run as a user that may write there, or set EXECUTOR_STATE_DIR",
        ),
    }
}

fn writable(dir: &Path) -> Finding {
    let tried = std::fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir).map(drop));
    match tried {
        Ok(()) => Finding::Ok(format!("{} is writable", dir.display())),
        Err(error) => Finding::error(
            format!("{}: {error}", dir.display()),
            "run as a user that may write there, or set EXECUTOR_STATE_DIR",
        ),
    }
}

fn disk_space(config: &Config) -> Finding {
    let free = match statvfs(&config.state_dir) {
        Ok(stat) => stat.blocks_available() * stat.fragment_size(),
        Err(errno) => {
            let problem = format!("cannot ask {}: {errno}", config.state_dir.display());
            return Finding::error(problem, "check EXECUTOR_STATE_DIR");
        }
    };
    let jobs = config.limits.disk_bytes.saturating_mul(config.maximum_jobs as u64);
    let wanted =
        jobs.saturating_add(config.image_cache_bytes).saturating_add(config.repository_cache_bytes);
    let text = format!("{} GiB free in {}", free / GIB, config.state_dir.display());
    if free < GIB {
        return Finding::error(text, "free space, or move EXECUTOR_STATE_DIR");
    }
    if free < wanted {
        return Finding::warning(
            format!("{text}, jobs and caches may come to need {} GiB", wanted / GIB),
            "lower EXECUTOR_IMAGE_CACHE_SIZE, EXECUTOR_REPOSITORY_CACHE_SIZE or EXECUTOR_FIRECRACKER_DISK_SPACE",
        );
    }
    Finding::Ok(text)
}

fn memory(config: &Config) -> Finding {
    let Some(total) = total_memory() else {
        return Finding::warning("/proc/meminfo cannot be read", "mount /proc");
    };
    let wanted = config.limits.memory_bytes.saturating_mul(config.maximum_jobs as u64);
    let text = format!("{} GiB in all", total / GIB);
    if wanted > total {
        return Finding::warning(
            format!("{text}, {} jobs may come to need {} GiB", config.maximum_jobs, wanted / GIB),
            "lower EXECUTOR_JOB_MEMORY or EXECUTOR_MAXIMUM_NUM_JOBS",
        );
    }
    Finding::Ok(text)
}

fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

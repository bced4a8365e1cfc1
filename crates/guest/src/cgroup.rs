//! Control groups: the agent in one, each step in its own under a common parent.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{Context, Result};
use crate::pause::pause;

const ROOT: &str = "/sys/fs/cgroup";
const STEPS: &str = "/sys/fs/cgroup/steps";
/// Memory that steps can never have although it is free when the guest starts: the agent's, the kernel's own
/// and a little page cache, in bytes. Without it a hungry step starves the kernel before it reaches its limit,
/// and the guest reads its own programs from disk again and again instead of killing the step.
const RESERVE: u64 = 40 << 20;

/// Makes the groups and puts the agent into its own.
pub fn set_up() -> Result<()> {
    write(Path::new(ROOT), "cgroup.subtree_control", "+cpu +memory +pids")?;
    let agent = Path::new(ROOT).join("agent");
    fs::create_dir(&agent).context("cgroup of the agent")?;
    write(&agent, "cgroup.procs", "1")?;
    write(&agent, "cpu.weight", "10000")?;
    write(&agent, "memory.min", &(RESERVE / 2).to_string())?;
    let steps = Path::new(STEPS);
    fs::create_dir(steps).context("cgroup of the steps")?;
    write(steps, "cgroup.subtree_control", "+cpu +memory +pids")?;
    let limit = memory("MemAvailable:").saturating_sub(RESERVE).max(RESERVE);
    write(steps, "memory.max", &limit.to_string())
}

/// Memory that the kernel manages, in bytes; 0 if it does not say.
pub fn memory_total() -> u64 {
    memory("MemTotal:")
}

fn memory(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix(field));
    kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Limits the processes of all steps together.
pub fn limit_processes(max: u32) -> Result<()> {
    write(Path::new(STEPS), "pids.max", &max.to_string())
}

/// CPU time (ms) and peak memory (bytes) of all steps so far.
pub fn usage() -> (u64, u64) {
    let steps = Path::new(STEPS);
    (cpu_ms(steps), number(steps, "memory.peak"))
}

/// Notices when steps only wait for memory. Near its limit the kernel may throw out the very pages of the
/// programs that run, read them again, and so on: no process is killed, and nothing gets done.
#[derive(Default)]
pub struct ThrashWatch {
    /// Times (ms) and how long everything had stood still by then (ms), oldest first.
    seen: VecDeque<(u64, u64)>,
}

/// How far back the watch looks, in milliseconds.
const THRASH_WINDOW: u64 = 2000;

impl ThrashWatch {
    /// Looks at the group of all steps; call it again and again while a step runs, `now` in milliseconds.
    pub fn is_thrashing(&mut self, now: u64) -> bool {
        let steps = Path::new(STEPS);
        let text = fs::read_to_string(steps.join("memory.pressure")).unwrap_or_default();
        let full = number(steps, "memory.current") > number(steps, "memory.max") / 10 * 9;
        self.judge(now, stalled_ms(&text)) && full
    }

    /// Whether everything stood still for most of the window.
    fn judge(&mut self, now: u64, stalled: u64) -> bool {
        self.seen.push_back((now, stalled));
        while self.seen.get(1).is_some_and(|(time, _)| time + THRASH_WINDOW <= now) {
            self.seen.pop_front();
        }
        self.seen.front().is_some_and(|(time, before)| {
            let passed = now - time;
            passed >= THRASH_WINDOW && (stalled - before) * 10 > passed * 6
        })
    }
}

/// How long all steps stood still together, out of the kernel's pressure report.
fn stalled_ms(pressure: &str) -> u64 {
    let full = pressure.lines().find_map(|line| line.strip_prefix("full "));
    let total = full.and_then(|line| line.rsplit_once("total="));
    total.and_then(|(_, total)| total.parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// The group of one step; removed on drop.
pub struct StepGroup {
    path: PathBuf,
    process_limit_hits: u64,
}

/// What the kernel says about a step's group.
pub struct Readings {
    /// A process was killed for memory.
    pub oom: bool,
    /// A fork was refused.
    pub process_limit: bool,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Highest memory use in bytes.
    pub peak_memory_bytes: u64,
}

impl StepGroup {
    /// Makes the group of step `number`.
    pub fn create(number: u32) -> Result<Self> {
        let path = Path::new(STEPS).join(number.to_string());
        fs::create_dir(&path).context("cgroup of the step")?;
        // One process short of memory takes the whole step with it: a clear end instead of a crippled job.
        write(&path, "memory.oom.group", "1")?;
        Ok(Self { path, process_limit_hits: event(Path::new(STEPS), "pids.events", "max") })
    }

    /// Moves a process into the group.
    pub fn add(&self, pid: i32) -> Result<()> {
        write(&self.path, "cgroup.procs", &pid.to_string())
    }

    /// Kills every process of the group.
    pub fn kill(&self) -> Result<()> {
        write(&self.path, "cgroup.kill", "1")
    }

    /// What happened in the group so far.
    pub fn readings(&self) -> Readings {
        let hits = event(&self.path, "pids.events", "max");
        let parent_hits = event(Path::new(STEPS), "pids.events", "max");
        Readings {
            oom: event(&self.path, "memory.events", "oom_kill") > 0,
            process_limit: hits > 0 || parent_hits > self.process_limit_hits,
            cpu_ms: cpu_ms(&self.path),
            peak_memory_bytes: number(&self.path, "memory.peak"),
        }
    }
}

impl Drop for StepGroup {
    fn drop(&mut self) {
        let _: Result<()> = self.kill();
        // The kernel lets go of the killed a moment later.
        for _ in 0..1000 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    pause(Duration::from_millis(1));
                }
                _ => return,
            }
        }
    }
}

fn write(group: &Path, file: &str, value: &str) -> Result<()> {
    fs::write(group.join(file), value)
        .context(format_args!("write {value} to {file} of the cgroup {}", group.display()))
}

fn number(group: &Path, file: &str) -> u64 {
    fs::read_to_string(group.join(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn event(group: &Path, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(group.join(file)).unwrap_or_default();
    flat_keyed(&text, key)
}

fn cpu_ms(group: &Path) -> u64 {
    event(group, "cpu.stat", "usage_usec") / 1000
}

/// A value of the kernel's `key value` line format.
fn flat_keyed(text: &str, key: &str) -> u64 {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_flat_files() {
        let text = "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\n";
        assert_eq!(flat_keyed(text, "oom_kill"), 1);
        assert_eq!(flat_keyed(text, "max"), 12);
        assert_eq!(flat_keyed(text, "absent"), 0);
    }

    #[test]
    fn standing_still_for_seconds_is_thrashing_and_a_moment_is_not() {
        let report = "some avg10=1.00 total=9\nfull avg10=0.50 avg60=0 avg300=0 total=2500000\n";
        assert_eq!(stalled_ms(report), 2500);
        let verdict = |stall: fn(u64) -> u64| {
            let mut watch = ThrashWatch::default();
            (0..100).map(|tick| tick * 100).any(|now| watch.judge(now, stall(now)))
        };
        assert!(verdict(|now| now * 8 / 10));
        assert!(!verdict(|now| now.min(1000)), "a short stall passes");
        assert!(!verdict(|now| now / 2), "slow is not stuck");
    }
}

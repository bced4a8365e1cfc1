//! Executors of the store as the page shows them.

use std::collections::HashMap;

use store::{Executor, ExecutorFilter, Hold, Job, JobFilter, JobState};

use super::{
    Capacity, CompatibilityView, ExecutorRow, ExecutorsList, Fact, Filter, HeldLink, JobLink,
};
use crate::App;
use crate::ui::compat::{Compatibility, compatibility};
use crate::ui::format::{self, Html};

/// Seen within this time: active.
const ACTIVE_MS: i64 = 15_000;
/// Executors on the page.
const MAX_ROWS: i64 = 500;
/// More slots than this are only counted, not drawn.
const MAX_PIPS: i64 = 16;
/// This program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The list under a filter.
pub(super) async fn load(app: &App, csrf: &str, filter: &Filter) -> store::Result<ExecutorsList> {
    let now = app.clock.now_ms();
    let wanted = ExecutorFilter {
        query: filter.q.trim().to_owned(),
        seen_since: filter.active_only().then_some(now - ACTIVE_MS),
        offset: 0,
        limit: MAX_ROWS,
    };
    let found = app.store.executors(&wanted).await?;
    let processing =
        JobFilter { state: Some(JobState::Processing), limit: 500, ..JobFilter::default() };
    let mut jobs: HashMap<String, Vec<Job>> = HashMap::new();
    for job in app.store.jobs(&processing).await? {
        jobs.entry(job.executor.clone()).or_default().push(job);
    }
    let holds = app.store.open_holds().await?;
    let rows: Vec<ExecutorRow> = found
        .executors
        .iter()
        .map(|executor| {
            let held: Vec<&Hold> = holds.iter().filter(|h| h.executor == executor.name).collect();
            row(executor, jobs.get(&executor.name).map_or(&[], Vec::as_slice), &held, now)
        })
        .collect();
    Ok(ExecutorsList {
        csrf: csrf.to_owned(),
        filtered: !filter.q.trim().is_empty() || filter.active_only(),
        start_command: start_command(app),
        summary: summary(&rows, found.total),
        rows,
    })
}

fn summary(rows: &[ExecutorRow], total: i64) -> String {
    let active = rows.iter().filter(|row| row.active).count();
    let running: usize = rows.iter().map(|row| row.jobs.len()).sum();
    let plural = |n: i64, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let executors = plural(total, "executor", "executors");
    let jobs = plural(running as i64, "job", "jobs");
    format!("{executors} · {active} active · {jobs} running")
}

/// What an operator types on the new machine.
fn start_command(app: &App) -> String {
    let config = app.config.current();
    let url = match config.executor_url() {
        "" => "http://INSTANCE:PORT",
        url => url,
    };
    format!(
        "export EXECUTOR_FRONTEND_URL={url}\nexport EXECUTOR_FRONTEND_PASSWORD=ACCESS-TOKEN\n\
         export EXECUTOR_QUEUE_NAMES=jobs,batches,codeintel\nexecutor run"
    )
}

fn row(executor: &Executor, jobs: &[Job], held: &[&Hold], now: i64) -> ExecutorRow {
    let active = now - executor.last_seen_at <= ACTIVE_MS;
    let drain = executor.drain_requested || executor.draining;
    let (dot, status) = match (active, drain) {
        (false, _) => ("grey", "Not seen"),
        (true, true) => ("amber", "Draining"),
        (true, false) => ("green", "Active"),
    };
    let (runtime, sandboxed) = runtime(executor);
    let mut links: Vec<JobLink> =
        jobs.iter().map(|job| JobLink { id: job.id, title: job.name.clone() }).collect();
    links.sort_by_key(|link| link.id);
    ExecutorRow {
        id: executor.id,
        name: executor.name.clone(),
        active,
        dot,
        status,
        queues: executor.queues.clone(),
        runtime,
        sandboxed,
        compatibility: fit(executor, active),
        capacity: executor.capacity.map(|slots| capacity(slots, (jobs.len() + held.len()) as i64)),
        drain,
        drain_requested: executor.drain_requested,
        last_seen: format::ago(executor.last_seen_at, now),
        version: executor.executor_version.clone(),
        platform: [executor.os.as_str(), executor.architecture.as_str()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/"),
        jobs: links,
        held: held
            .iter()
            .map(|hold| HeldLink { job: hold.job_id, left: format::left(hold.held_until, now) })
            .collect(),
        last_error: executor.last_error.clone(),
        last_error_at: executor.last_error_at.map(|at| format::ago(at, now)),
        details: details(executor),
    }
}

/// Runtime with its acceleration, and whether it isolates jobs. A stock executor does not say; nothing is
/// claimed about it then.
fn runtime(executor: &Executor) -> (Option<String>, bool) {
    let sandboxed = matches!(executor.runtime.as_str(), "" | "firecracker" | "qemu");
    if executor.runtime.is_empty() {
        return (None, true);
    }
    let detail = match (sandboxed, executor.acceleration.as_str()) {
        (false, _) => " · not sandboxed",
        (true, "kvm") => " · kvm",
        (true, "tcg") => " · emulated",
        (true, _) => "",
    };
    (Some(format!("{}{detail}", executor.runtime)), sandboxed)
}

fn capacity(slots: i64, used: i64) -> Capacity {
    let drawn = if (1..=MAX_PIPS).contains(&slots) { slots } else { 0 };
    Capacity { text: format!("{used}/{slots}"), pips: (0..drawn).map(|slot| slot < used).collect() }
}

/// Says something only when there is something to do. An inactive executor is left alone.
fn fit(executor: &Executor, active: bool) -> Option<CompatibilityView> {
    if !active {
        return None;
    }
    let (label, hint) = match compatibility(VERSION, &executor.executor_version) {
        Ok(None | Some(Compatibility::UpToDate)) => return None,
        Ok(Some(Compatibility::Outdated)) => (
            "Outdated",
            format!("This executor is older than the instance ({VERSION}). Upgrade the executor."),
        ),
        // Stock executors, which tell no capacity, are numbered like the product they come from.
        Ok(Some(Compatibility::VersionAhead)) if executor.capacity.is_none() => (
            "Version ahead",
            format!(
                "By its number this stock executor is newer than the instance ({VERSION}). The two \
                 are numbered independently: if its jobs end well, nothing has to be done."
            ),
        ),
        Ok(Some(Compatibility::VersionAhead)) => (
            "Version ahead",
            format!(
                "This executor is newer than the instance ({VERSION}). Upgrade the instance, or \
                 install an executor of its version."
            ),
        ),
        Err(_) if executor.executor_version.is_empty() => return None,
        Err(error) => ("Unknown version", crate::ui::error::sentence(&error.to_string())),
    };
    Some(CompatibilityView { color: "amber", label, hint })
}

fn details(executor: &Executor) -> Vec<Fact> {
    let fact = |name, value: &str| {
        let value = if value.is_empty() { "n/a" } else { value };
        Fact { name, value: Html::text(value) }
    };
    let acceleration = match executor.acceleration.as_str() {
        "kvm" => "KVM",
        "tcg" => "none (software emulation)",
        other => other,
    };
    vec![
        fact("Operating system", &executor.os),
        fact("Architecture", &executor.architecture),
        fact("Executor version", &executor.executor_version),
        fact("Git version", &executor.git_version),
        fact("Docker version", &executor.docker_version),
        fact("Ignite version", &executor.ignite_version),
        fact("src version", &executor.src_cli_version),
        fact("Runtime", &executor.runtime),
        fact("Acceleration", acceleration),
        Fact { name: "First seen", value: format::at(executor.first_seen_at) },
        Fact { name: "Last seen", value: format::at(executor.last_seen_at) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_virtual_machines_count_as_sandboxed() {
        let executor = |runtime: &str, acceleration: &str| Executor {
            runtime: runtime.to_owned(),
            acceleration: acceleration.to_owned(),
            ..sample()
        };
        let cases = [
            ("firecracker", "kvm", Some("firecracker · kvm"), true),
            ("qemu", "tcg", Some("qemu · emulated"), true),
            ("docker", "", Some("docker · not sandboxed"), false),
            ("shell", "kvm", Some("shell · not sandboxed"), false),
            ("", "", None, true),
        ];
        for (name, acceleration, text, sandboxed) in cases {
            let expected = (text.map(str::to_owned), sandboxed);
            assert_eq!(runtime(&executor(name, acceleration)), expected);
        }
    }

    #[test]
    fn fifteen_seconds_make_an_executor_inactive() {
        let executor = Executor { executor_version: "99.0.0".to_owned(), ..sample() };
        let row_at = |now| row(&executor, &[], &[], now);
        let fresh = row_at(ACTIVE_MS);
        assert_eq!((fresh.active, fresh.status), (true, "Active"));
        assert_eq!(fresh.compatibility.map(|c| c.label), Some("Version ahead"));
        let stale = row_at(ACTIVE_MS + 1);
        assert_eq!(
            (stale.active, stale.status, stale.compatibility.is_some()),
            (false, "Not seen", false)
        );
    }

    #[test]
    fn slots_are_drawn_while_they_are_few() {
        assert_eq!(capacity(3, 1).pips, [true, false, false]);
        assert_eq!(capacity(2, 5).pips, [true, true]);
        assert!(capacity(400, 7).pips.is_empty());
    }

    fn sample() -> Executor {
        Executor {
            id: 1,
            name: "exec-7".to_owned(),
            queues: vec!["jobs".to_owned()],
            multi_queue: false,
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            docker_version: String::new(),
            executor_version: VERSION.to_owned(),
            git_version: String::new(),
            ignite_version: String::new(),
            src_cli_version: String::new(),
            capacity: Some(1),
            runtime: "qemu".to_owned(),
            acceleration: "kvm".to_owned(),
            draining: false,
            drain_requested: false,
            last_error: String::new(),
            last_error_at: None,
            first_seen_at: 0,
            last_seen_at: 0,
        }
    }
}

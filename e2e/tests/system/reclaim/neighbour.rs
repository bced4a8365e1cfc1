//! Another executor on the same machine, which must not notice anything.

use std::path::PathBuf;

use e2e::executor::Executor;
use e2e::gate::{Closed, Gate};
use e2e::world::{PATIENCE, World, job};
use e2e::{api::Job, wait::until_true};
use serde_json::json;

use super::stage::{cgroups, namespaces};

/// Its job waits for the answer to one request all the time.
const SCRIPT: &str = "echo it runs; wget -q -O /dev/null --post-data '{}' http://instance.internal/results; echo it goes on";

pub struct Neighbour {
    executor: Executor,
    job: Job,
    gate: Gate,
    has: Has,
}

/// What it has on the machine.
#[derive(Debug, PartialEq, Eq)]
struct Has {
    processes: Vec<i32>,
    folders: Vec<PathBuf>,
    namespaces: Vec<String>,
    cgroups: Vec<PathBuf>,
}

impl Neighbour {
    /// Starts it, with a job; `prefix` begins the names of its virtual machines.
    pub async fn start(world: &World, prefix: &str, network: bool) -> Self {
        let gate = Gate::start(world.instance.address()).await;
        gate.close(Closed::Request("/results HTTP"));
        let settings = [("EXECUTOR_VM_PREFIX", prefix)];
        let executor = world.executor_at(&gate.url(), "neighbour", &settings);
        let mut file = job(SCRIPT);
        if network {
            file["network"] = json!("egress");
        }
        let job = world.api.submit(&file).await;
        until_true("the neighbour's job waits", PATIENCE, async || gate.is_holding()).await;
        let has = Has::now(&executor);
        assert_eq!(has.processes.len(), 1, "{has:?}");
        Self { executor, job, gate, has }
    }

    /// Nothing of it was touched.
    pub fn is_unharmed(&self) {
        assert_eq!(Has::now(&self.executor), self.has, "the neighbour's");
    }

    /// The cgroups of its virtual machine.
    pub fn cgroups(&self) -> &[PathBuf] {
        &self.has.cgroups
    }

    /// Its job goes on and completes.
    pub async fn completes(self) {
        self.is_unharmed();
        self.gate.open();
        let done = self.job.reaches("completed", PATIENCE).await;
        assert_eq!(done["attempt"], 1, "{done:#}");
        self.executor.leaves_nothing(PATIENCE).await;
    }
}

impl Has {
    fn now(executor: &Executor) -> Self {
        let processes = executor.virtual_machines().iter().map(|process| process.pid).collect();
        let folders = executor.run_dirs();
        let mut cgroups = cgroups();
        let names: Vec<_> = folders.iter().filter_map(|folder| folder.file_name()).collect();
        cgroups.retain(|cgroup| names.contains(&cgroup.file_name().expect("it has a name")));
        Self { processes, folders, namespaces: namespaces(executor.state()), cgroups }
    }
}

//! An executor that is killed at a point, and the look for what is left of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::api::Job;
use e2e::engine::Engine;
use e2e::executor::Executor;
use e2e::gate::{Closed, Gate};
use e2e::processes::{self, Process};
use e2e::stand_ins::{StandIns, When};
use e2e::wait::{until, until_true};
use e2e::world::{PATIENCE, World};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::neighbour::Neighbour;

/// Within which nothing may be left of a dead executor.
const GONE: Duration = Duration::from_secs(60);

/// Where the executor is killed.
pub enum Point {
    /// A request to the instance is under way.
    Request(Closed),
    /// A program that it started works.
    Program(&'static str, When, &'static str),
    /// The instance was told of the phase.
    Phase(&'static str),
    /// A step printed it.
    Line(&'static str),
    /// It is seen on the host.
    Host(fn(&Stage) -> bool),
}

pub struct Stage {
    // Before the folder, which is the world's.
    /// Runs the jobs, where they do not run in virtual machines.
    engine: Option<Engine>,
    pub world: World,
    pub executor: Executor,
    name: &'static str,
    prefix: String,
    gate: Gate,
    programs: StandIns,
    neighbour: Neighbour,
}

impl Stage {
    /// `name` is that of the executor. `None` without root, if it is needed.
    pub async fn new(name: &'static str, network: bool) -> Option<Self> {
        if network && !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: networks of jobs need root");
            return None;
        }
        Some(Self::set_up(name, network, World::new().await, None).await)
    }

    /// The same with an executor that runs jobs in containers.
    pub async fn with_containers(name: &'static str) -> Option<Self> {
        let world = World::new().await;
        let engine = Engine::start(world.path()).await?;
        Some(Self::set_up(name, true, world, Some(engine)).await)
    }

    async fn set_up(
        name: &'static str,
        network: bool,
        world: World,
        engine: Option<Engine>,
    ) -> Self {
        // Begins the names of both executors' virtual machines, and of nobody else's.
        let prefix = format!("{name}-{}", std::process::id());
        let neighbour = Neighbour::start(&world, &prefix, network).await;
        let gate = Gate::start(world.instance.address()).await;
        let programs = StandIns::new(world.path());
        let executor = start(&world, name, &prefix, &gate, &programs, engine.as_ref());
        let stage = Self { engine, world, executor, name, prefix, gate, programs, neighbour };
        stage.is_seen().await;
        stage
    }

    /// Containers that there are, of whoever.
    pub fn containers(&self) -> Vec<String> {
        self.engine.as_ref().map(Engine::containers).unwrap_or_default()
    }

    fn restart(&mut self) {
        let (world, gate, engine) = (&self.world, &self.gate, self.engine.as_ref());
        self.executor = start(world, self.name, &self.prefix, gate, &self.programs, engine);
    }

    pub fn state(&self) -> &Path {
        self.executor.state()
    }

    async fn is_seen(&self) {
        let api = &self.world.api;
        // The neighbour is the other one.
        until_true("the executor is seen", PATIENCE, async || api.executors().await.len() > 1)
            .await;
    }

    /// A job comes to the point, and the executor is killed there.
    pub async fn killed_in_job(&mut self, name: &str, point: &Point, file: &Value) -> Job {
        self.hold(point);
        let job = self.world.api.submit(file).await;
        self.comes_to(name, point, Some(&job)).await;
        self.kill_and_look(name, point, Some(&job)).await;
        job
    }

    /// A starting executor comes to the point, and is killed there.
    pub async fn killed_at_start(&mut self, name: &str, point: &Point) {
        self.executor.program().kill();
        self.hold(point);
        self.restart();
        self.comes_to(name, point, None).await;
        self.kill_and_look(name, point, None).await;
    }

    /// The executor is killed now, and another one takes over.
    pub async fn kill_and_look(&mut self, name: &str, point: &Point, job: Option<&Job>) {
        let owners = self.owners();
        let family = processes::descendants(self.executor.program().pid());
        self.executor.program().kill();
        self.gate.open();
        if let Some(job) = job
            && job.state().await == "processing"
        {
            // Nobody shall run it again.
            job.cancel().await;
        }
        // The brief ones end by themselves with their parent. The others go on until they are killed.
        if let Point::Program("ip", ..) = point {
            until_true("brief programs end", GONE, async || !family.iter().any(is_stand_in)).await;
            self.programs.release();
        }
        self.restart();
        let mut left = Vec::new();
        until_true(&format!("nothing is left after: {name}"), GONE, async || {
            let now = self.left(&owners, &family);
            if now != left {
                eprintln!("{name}: left: {now:#?}");
                left = now;
            }
            left.is_empty()
        })
        .await;
        self.programs.release();
        self.neighbour.is_unharmed();
    }

    /// A job runs on what the dead one left.
    pub async fn completes(&self, file: &Value) {
        let job = self.world.api.submit(file).await;
        let done = until("the next job ends", PATIENCE, async || {
            let job = job.get().await;
            let state = job["state"].as_str().expect("a state").to_owned();
            (!["queued", "processing"].contains(&state.as_str())).then_some(job)
        })
        .await;
        assert_eq!(done["state"], "completed", "{done:#}\n{}", job.log().await);
    }

    pub async fn ends(self) {
        self.neighbour.completes().await;
        self.executor.leaves_nothing(PATIENCE).await;
    }

    fn hold(&self, point: &Point) {
        match point {
            Point::Request(closed) => self.gate.close(*closed),
            Point::Program(program, when, pattern) => self.programs.hold(program, *when, pattern),
            Point::Phase(_) | Point::Line(_) | Point::Host(_) => {}
        }
    }

    async fn comes_to(&mut self, name: &str, point: &Point, job: Option<&Job>) {
        let job = || job.expect("a job's point");
        let what = format!("it comes to: {name}");
        match point {
            Point::Request(_) => {
                until_true(&what, PATIENCE, async || self.gate.is_holding()).await;
            }
            Point::Program(..) => {
                until_true(&what, PATIENCE, async || self.programs.are_waiting()).await;
            }
            Point::Phase(phase) => job().enters(phase, PATIENCE).await,
            Point::Line(text) => job().prints(text, PATIENCE).await,
            Point::Host(look) => until_true(&what, PATIENCE, async || look(self)).await,
        }
    }

    /// The folders of all executors that ever used the state directory and are still in it.
    fn owners(&self) -> Vec<PathBuf> {
        entries(&self.state().join("vms"))
    }

    /// What is on the machine that has no owner any more.
    fn left(&self, owners: &[PathBuf], family: &[Process]) -> Vec<String> {
        let state = self.state();
        let text = state.to_str().expect("test folders are UTF-8");
        let now = self.owners();
        if now.len() != 1 {
            return vec![format!("not one owner: {now:?}")];
        }
        let mut left: Vec<PathBuf> = owners.iter().filter(|path| path.exists()).cloned().collect();
        left.extend(self.executor.run_dirs());
        left.extend(namespaces(state).into_iter().map(PathBuf::from));
        left.extend(entries(&state.join("jobs")));
        left.extend(entries(&state.join("images/tmp")));
        for folder in ["disks", "repositories/mirrors", "repositories/checkouts"] {
            let begun = |path: &PathBuf| name_of(path).starts_with("tmp-");
            left.extend(entries(&state.join(folder)).into_iter().filter(begun));
        }
        let mut cgroups = cgroups();
        cgroups.retain(|path| name_of(path).starts_with(&self.prefix));
        left.extend(cgroups.into_iter().filter(|path| !self.neighbour.cgroups().contains(path)));
        let mut left: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        left.extend(mounts.lines().filter(|line| line.contains(text)).map(str::to_owned));
        for device in entries(Path::new("/sys/block")) {
            let file = fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
            left.extend(file.contains(text).then(|| device.display().to_string()));
        }
        left.extend(self.containers());
        left.extend(family.iter().filter(|process| process.lives()).map(|p| format!("{p:?}")));
        left
    }
}

fn start(
    world: &World,
    name: &str,
    prefix: &str,
    gate: &Gate,
    programs: &StandIns,
    engine: Option<&Engine>,
) -> Executor {
    let (path, qemu) = (programs.path(), programs.qemu());
    let containers = engine.map(Engine::settings).into_iter().flatten().collect::<Vec<_>>();
    let mut settings = vec![
        ("PATH", path.as_str()),
        ("EXECUTOR_QEMU_BINARY", &qemu),
        ("EXECUTOR_VM_PREFIX", prefix),
    ];
    settings.extend(containers.iter().map(|(name, value)| (*name, value.as_str())));
    world.executor_at(&gate.url(), name, &settings)
}

fn is_stand_in(process: &Process) -> bool {
    process.lives() && process.command.contains("/stand-ins/")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The network namespaces of executors with this state directory: its hash is in their names. TAP and rules
/// live and go with them.
pub fn namespaces(state: &Path) -> Vec<String> {
    let hash = Sha256::digest(state.as_os_str().as_encoded_bytes());
    let hash: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let names = entries(Path::new("/run/netns")).into_iter().map(|path| name_of(&path));
    names.filter(|name| name.starts_with(&format!("executor-{hash}-"))).collect()
}

/// The cgroups of all virtual machines, of version 2 or of each controller of version 1.
pub fn cgroups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let parents = entries(root).into_iter().chain([root.to_owned()]);
    let all = parents.flat_map(|parent| entries(&parent.join("executors")));
    all.filter(|path| path.is_dir()).collect()
}

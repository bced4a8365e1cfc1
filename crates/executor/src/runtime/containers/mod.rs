//! Plain containers, for machines without virtualization whose operator insists: the steps of all jobs share the
//! host's kernel.
//!
//! ```text
//! agent container: /agent, network namespace, processes ── channel ── executor
//!    ├─ workspace (a folder of the host) ─┐
//! step container (one after the other) ───┘
//! ```
//!
//! Everything but the execution of steps is as in a microVM, by the same code: the agent is our guest, which
//! writes files, streams artifacts out and carries the gateway; the network is [`microvm::net`]; images come
//! from our own store. When the executor dies its agent ends, and with it every process of the job, because
//! they share its process namespace.

mod attach;
mod disk;
mod engine;
mod images;
mod machine;
mod runc;
mod step;
mod workspace;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerSummary, HostConfig, Mount, MountType};
use microvm::RunDirs;
use microvm::agent::{
    AGENT_WORKSPACE, Agent, CONTAINER_ARGUMENT, CONTAINER_CHANNELS, GATEWAY_HOST, WORKSPACE,
};
use microvm::guest_client::Prepare;
use microvm::net::{GATEWAY_V4, NetworkRule};
use tokio::time::Instant;

use super::network::{MachineNetwork, Networks};
use super::{MachineSpec, RuntimeError, StartError};
use crate::config::Config;
use crate::metrics::Metrics;
use disk::DiskWatch;
pub use engine::EngineError;
use engine::{Container, Description, Engine, MACHINE_LABEL, OWNER_LABEL, STATE_LABEL};
pub use images::LoadError;
use images::{AGENT_PATH, EngineImages, UNPACKER};
pub use machine::ContainerMachine;
use machine::Parts;
use step::Surroundings;
pub use step::{ContainerExec, ContainerInput};
use workspace::{CHECKOUT, Etc, give_all, make_dirs, root_of, unpack};

/// Memory and processes of the agent.
const AGENT_MEMORY: i64 = 256 << 20;
const AGENT_PROCESSES: i64 = 256;
/// What the agent needs to serve files of steps with any user, and the gateway's port.
const AGENT_RIGHTS: [&str; 4] = ["DAC_OVERRIDE", "FOWNER", "CHOWN", "NET_BIND_SERVICE"];
/// The name of the host for jobs, where the operator wants it.
const HOST_NAME: &str = "host.docker.internal";

/// Everything that containers need.
pub struct Containers {
    engine: Engine,
    images: EngineImages,
    networks: Networks,
    run_dirs: RunDirs,
    state_dir: PathBuf,
    /// The state directory, as the engine sees it.
    engine_dir: PathBuf,
    /// The host, for jobs with a network, where the operator wants it.
    host_address: Option<IpAddr>,
    ready_timeout: Duration,
}

impl Containers {
    pub(super) async fn open(config: &Config) -> Result<Self, RuntimeError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(RuntimeError::NotRoot);
        }
        let state_dir = config.state_dir.clone();
        let io = |what: &str| {
            let what = format!("{what} in {}", config.state_dir.display());
            move |source| RuntimeError::Io { what, source }
        };
        std::fs::create_dir_all(&state_dir).map_err(io("state directory"))?;
        let engine = Engine::connect(&config.containers.docker_host).await?;
        let run_dirs = RunDirs::open(&state_dir).map_err(io("run directories"))?;
        let images = EngineImages::open(engine.clone(), &state_dir, config.image_cache_bytes)
            .map_err(io("images"))?;
        let (wanted, upstream) = (config.network.enabled, config.network.upstream());
        let networks = Networks::open(&state_dir, run_dirs.owner(), wanted, upstream).await;
        let engine_dir = config.containers.host_mount_path.clone();
        let host_address = match config.containers.host_gateway {
            true => engine.host_address().await,
            false => None,
        };
        let containers = Self {
            engine,
            images,
            networks,
            run_dirs,
            engine_dir: engine_dir.unwrap_or_else(|| state_dir.clone()),
            state_dir,
            host_address,
            ready_timeout: config.qemu.boot_timeout,
        };
        containers.reclaim().await.map_err(io("reclaiming"))?;
        Ok(containers)
    }

    /// Whether nothing of a job of this executor is left: its folder goes last but for its network.
    pub(super) fn is_empty(&self) -> bool {
        self.run_dirs.is_empty() && self.networks.is_empty()
    }

    pub(super) fn network_problem(&self) -> Option<&str> {
        self.networks.problem()
    }

    pub(super) fn engine_version(&self) -> &str {
        &self.engine.description.version
    }

    pub(super) fn ready_timeout(&self) -> Duration {
        self.ready_timeout
    }

    /// What is known of the engine, for people; and what is missing of its protection, each with its cure.
    pub fn describe(&self) -> (String, Vec<(String, &'static str)>) {
        let Description { socket, version, runc, maps_users, filters_calls, limits_root } =
            &self.engine.description;
        let mut missing = Vec::new();
        for defect in runc::defects(runc) {
            missing.push((
                format!("runc {runc} has a known way out: {defect}"),
                "install a later runc, unless your distribution has mended this one without a new number",
            ));
        }
        if !maps_users {
            missing.push((
                "the root of a container is root of this machine".to_owned(),
                "start the engine with user namespaces: \"userns-remap\": \"default\" in /etc/docker/daemon.json",
            ));
        }
        if !filters_calls {
            missing.push((
                "system calls of jobs are not filtered".to_owned(),
                "use an engine and a kernel with seccomp",
            ));
        }
        if !limits_root {
            missing.push((
                "the engine does not limit what jobs write: the executor looks every few seconds"
                    .to_owned(),
                "put the engine's data on btrfs or zfs and let it use that storage driver",
            ));
        }
        (format!("version {version} at {}", socket.display()), missing)
    }

    /// Removes containers, networks and folders of executors that died on this state directory, and images that
    /// are too many.
    pub(super) async fn reclaim(&self) -> io::Result<()> {
        match self.reclaim_containers().await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed containers that a dead executor left"),
            Err(error) => tracing::warn!(%error, "containers not reclaimed; tried again later"),
        }
        self.networks.reclaim(&self.state_dir).await;
        let dir = self.state_dir.clone();
        tokio::task::spawn_blocking(move || RunDirs::reclaim(&dir))
            .await
            .map_err(io::Error::other)??;
        if let Err(error) = self.images.sweep().await {
            tracing::warn!(%error, "images of the engine not swept; tried again later");
        }
        Ok(())
    }

    async fn reclaim_containers(&self) -> Result<usize, EngineError> {
        let state = self.networks.prefix();
        let mut dead = self.engine.labelled(STATE_LABEL, state).await?;
        dead.retain(|found| {
            let owner = found.labels.as_ref().and_then(|labels| labels.get(OWNER_LABEL));
            !RunDirs::is_alive(&self.state_dir, owner.map_or("", String::as_str))
        });
        // Agents last: Podman does not remove what others lean on.
        dead.sort_by_key(is_agent);
        let removed = dead.len();
        for found in dead {
            let id = found.id.unwrap_or_default();
            Container { engine: self.engine.clone(), id }.remove().await?;
        }
        Ok(removed)
    }

    pub(super) async fn start(
        &self,
        mut spec: MachineSpec,
        metrics: &Metrics,
    ) -> Result<(ContainerMachine, Option<MachineNetwork>), StartError> {
        let began = Instant::now();
        let mut names = Vec::new();
        for image in &spec.images {
            names.push(self.images.name(image).await?);
        }
        let loaded = began.elapsed();
        let run_dir = self.run_dirs.path(&spec.name);
        let mut parts = Parts::default();
        parts.run_dir = Some(run_dir.clone());
        let host = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| StartError::Host(format!("{what}: {error}"))
        };
        let workspace = make_dirs(&run_dir).map_err(host("the job's folder"))?;
        if let Some(checkout) = &spec.workspace {
            unpack(checkout, &workspace).await.map_err(host("the workspace"))?;
        }
        let unpacked = began.elapsed();
        let labels = self.labels(&spec.name);
        let listening = Agent::listen(&run_dir.join("channels")).map_err(host("the agent"))?;
        let has_network = spec.network.is_some();
        let body = self.agent(&run_dir, labels.clone()).await?;
        let agent = self.engine.create(&spec.name, body).await?;
        parts.containers.push(agent.clone());
        agent.start().await?;
        let state = agent.inspect(false).await?.state.unwrap_or_default();
        let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        if let Some(root) = root_of(pid).filter(|root| *root != (0, 0)) {
            let dir = workspace.clone();
            let given = tokio::task::spawn_blocking(move || give_all(&dir, root)).await;
            given
                .map_err(io::Error::other)
                .and_then(|given| given)
                .map_err(host("the workspace"))?;
        }
        if let Some(mut policy) = spec.network.take() {
            policy.networks.extend(self.host_address.map(NetworkRule::from));
            // Ids of processes mean something only in the engine's own namespace of them.
            if !is_in_container(pid, &agent.id) {
                let problem = "the executor does not see the engine's processes: run both in one process namespace";
                return Err(StartError::Host(format!("the job's network: {problem}")));
            }
            let network = self.networks.of_process(&spec.name, pid, policy, metrics).await?;
            parts.network = Some(network);
        }
        let guest = tokio::select! {
            greeted = listening.greet() => greeted?,
            () = tokio::time::sleep(self.ready_timeout) => {
                return Err(StartError::Host("the job's agent did not become ready".to_owned()));
            }
        };
        guest.prepare(Prepare::default()).await.map_err(StartError::Prepare)?;
        let report = format!(
            "ready in {} ms: images {} ms, workspace {} ms, agent {} ms",
            began.elapsed().as_millis(),
            loaded.as_millis(),
            (unpacked - loaded).as_millis(),
            (began.elapsed() - unpacked).as_millis(),
        );
        let etc = self.etc(&run_dir, has_network);
        let mut mounts = vec![self.mount(&workspace, WORKSPACE)];
        for (path, seen) in etc.write().map_err(host("the job's folder"))? {
            mounts.push(self.mount(&path, seen));
        }
        let around = Surroundings {
            image: String::new(),
            agent: agent.clone(),
            mounts,
            labels,
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            disk_mib: spec.disk_mib,
            max_processes: spec.max_processes,
            limits_root: self.engine.description.limits_root,
        };
        let (_, network) = parts.keep();
        let machine = ContainerMachine {
            guest,
            around,
            etc,
            images: names,
            disk: DiskWatch::start(run_dir.clone(), spec.disk_mib << 20),
            run_dir,
            steps: Mutex::default(),
            used: Arc::default(),
            report,
            destroyed: AtomicBool::new(false),
        };
        Ok((machine, network))
    }

    fn labels(&self, machine: &str) -> HashMap<String, String> {
        [
            (STATE_LABEL, self.networks.prefix()),
            (OWNER_LABEL, self.run_dirs.owner()),
            (MACHINE_LABEL, machine),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Shows something below the state directory to a container.
    fn mount(&self, path: &Path, target: &str) -> Mount {
        // Run directories are canonical, the state directory may be reached by a link.
        let state =
            std::fs::canonicalize(&self.state_dir).unwrap_or_else(|_| self.state_dir.clone());
        let seen = match path.strip_prefix(&state) {
            Ok(below) if self.engine_dir != self.state_dir => self.engine_dir.join(below),
            _ => path.to_owned(),
        };
        Mount {
            typ: Some(MountType::BIND),
            source: Some(seen.display().to_string()),
            target: Some(target.to_owned()),
            ..Mount::default()
        }
    }

    fn etc(&self, run_dir: &Path, has_network: bool) -> Etc {
        let mut hosts = vec![("127.0.0.1".to_owned(), GATEWAY_HOST)];
        if let Some(ip) = self.host_address.filter(|_| has_network) {
            hosts.push((ip.to_string(), HOST_NAME));
        }
        // Without a network nobody answers, at once; the host's own servers are none of the job's business.
        let nameserver = if has_network { GATEWAY_V4 } else { Ipv4Addr::LOCALHOST };
        Etc::new(run_dir, &hosts, nameserver.into())
    }

    async fn agent(
        &self,
        run_dir: &Path,
        labels: HashMap<String, String>,
    ) -> Result<ContainerCreateBody, StartError> {
        let owned = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
        Ok(ContainerCreateBody {
            image: Some(self.images.agent().await?),
            entrypoint: owned(&[AGENT_PATH, CONTAINER_ARGUMENT]),
            hostname: Some("job".to_owned()),
            labels: Some(labels),
            host_config: Some(HostConfig {
                mounts: Some(vec![
                    self.mount(&run_dir.join("channels"), CONTAINER_CHANNELS),
                    self.mount(&run_dir.join("workspace"), AGENT_WORKSPACE),
                ]),
                network_mode: Some("none".to_owned()),
                ipc_mode: Some("private".to_owned()),
                readonly_rootfs: Some(true),
                memory: Some(AGENT_MEMORY),
                pids_limit: Some(AGENT_PROCESSES),
                cap_drop: owned(&["ALL"]),
                cap_add: owned(&AGENT_RIGHTS),
                security_opt: owned(&["no-new-privileges"]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        })
    }
}

/// Steps have the machine's name and a number.
fn is_agent(found: &ContainerSummary) -> bool {
    let machine = found.labels.as_ref().and_then(|labels| labels.get(MACHINE_LABEL));
    let names = found.names.as_deref().unwrap_or_default();
    names.iter().any(|name| Some(name.trim_start_matches('/')) == machine.map(String::as_str))
}

fn is_in_container(pid: u32, id: &str) -> bool {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    cgroups.is_ok_and(|cgroups| cgroups.contains(id))
}

/// Programs of this machine that are run for containers, how to ask each for its version, and its package.
pub const PROGRAMS: [(&str, &str, &str); 2] =
    [(CHECKOUT, "-version", "squashfs-tools"), (UNPACKER, "--version", "squashfs-tools-ng")];

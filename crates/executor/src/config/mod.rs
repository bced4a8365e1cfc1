//! Settings of the executor, read from the environment before anything else is touched.

mod acceleration;
pub mod go_syntax;
mod help;
mod network;
mod reader;
mod secret;
mod source;
pub mod vars;

use std::path::PathBuf;
use std::time::Duration;

use protocol::DockerAuthConfig;
use url::Url;

pub use acceleration::Acceleration;
pub use help::{environment_help, environment_markdown};
pub use network::NetworkConfig;
use reader::Reader;
pub use secret::Secret;
pub use source::{ProcessEnvironment, Source};

/// Everything an operator can set. See [`vars`] for the meaning of each.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL of the instance; a path prefix in it is kept.
    pub frontend_url: Url,
    /// The shared secret.
    pub frontend_password: Secret,
    /// Queues to serve.
    pub queues: Queues,
    /// Pause between two dequeues where the instance does not hold them.
    pub poll_interval: Duration,
    /// Pause between two heartbeats.
    pub heartbeat_interval: Duration,
    /// Job slots, at least 1.
    pub maximum_jobs: usize,
    /// Jobs after which the executor exits; `None` = never.
    pub total_jobs: Option<u64>,
    /// Time after which no more jobs are taken; `None` = never.
    pub max_active_time: Option<Duration>,
    /// Limits and defaults of one job.
    pub limits: JobLimits,
    /// What isolates jobs.
    pub runtime: RuntimeChoice,
    /// Settings of plain containers.
    pub containers: ContainersConfig,
    /// Settings of microVMs, and of QEMU.
    pub qemu: QemuConfig,
    /// Settings of Firecracker.
    pub firecracker: FirecrackerConfig,
    /// State directory.
    pub state_dir: PathBuf,
    /// Quota of the image cache, in bytes.
    pub image_cache_bytes: u64,
    /// Quota of mirrors and checkouts, in bytes.
    pub repository_cache_bytes: u64,
    /// Pause between two sweeps.
    pub cleanup_interval: Duration,
    /// Registry credentials of jobs that bring none.
    pub docker_auth: DockerAuthConfig,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// What jobs may reach.
    pub network: NetworkConfig,
    /// Image for `src` steps.
    pub src_cli_image: Option<String>,
    /// Settings that are set and have no effect, with the reason; logged at start.
    pub warnings: Vec<String>,
}

/// Limits of one job, and its sizes where the job names none.
#[derive(Clone, Debug)]
pub struct JobLimits {
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Memory as the operator wrote it, for the dequeue request.
    pub memory_text: String,
    /// Scratch disk in bytes.
    pub disk_bytes: u64,
    /// Scratch disk as the operator wrote it.
    pub disk_text: String,
    /// Processes and threads.
    pub max_processes: u32,
    /// Log output in bytes.
    pub max_output_bytes: u64,
    /// Wall time.
    pub max_runtime: Duration,
    /// Time that a failed job's machine may be held; zero = never.
    pub max_hold: Duration,
}

/// What isolates jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// A microVM for each.
    MicroVms(VmmChoice),
    /// Containers on the host's own kernel.
    Docker,
}

/// Settings of plain containers.
#[derive(Clone, Debug, Default)]
pub struct ContainersConfig {
    /// `unix://` and the engine's socket; empty = where engines usually listen.
    pub docker_host: String,
    /// The state directory as the engine sees it, where that differs.
    pub host_mount_path: Option<PathBuf>,
    /// Jobs with a network reach the host as `host.docker.internal`.
    pub host_gateway: bool,
}

/// The program that runs microVMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmmChoice {
    /// Firecracker where it works, else QEMU.
    Auto,
    /// Firecracker or nothing.
    Firecracker,
    /// QEMU.
    Qemu,
}

/// Settings of Firecracker.
#[derive(Clone, Debug)]
pub struct FirecrackerConfig {
    /// Path, or name in `PATH`.
    pub binary: PathBuf,
    /// Path, or name in `PATH`.
    pub jailer: PathBuf,
    /// Bytes per second towards a job; `None` = no limit.
    pub ingress: Option<u64>,
    /// Bytes per second from a job; `None` = no limit.
    pub egress: Option<u64>,
}

/// Settings of microVMs and of QEMU.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// Path, or name in `PATH`.
    pub binary: PathBuf,
    /// KVM, software emulation, or whichever works.
    pub acceleration: Acceleration,
    /// Kernel and initramfs.
    pub kernel_dir: PathBuf,
    /// Prefix of VM names.
    pub vm_prefix: String,
    /// Time to a ready guest.
    pub boot_timeout: Duration,
}

/// Folder of installed programs in the state directory.
pub const PROGRAMS: &str = "bin";

/// The queues there are.
const QUEUES: [&str; 3] = ["batches", "codeintel", "jobs"];

/// The queues an executor serves; decides which form of the protocol it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queues {
    /// `EXECUTOR_QUEUE_NAME`.
    One(String),
    /// `EXECUTOR_QUEUE_NAMES`.
    Many(Vec<String>),
}

impl Queues {
    /// The queues as one label: names joined by commas.
    pub fn label(&self) -> String {
        match self {
            Self::One(name) => name.clone(),
            Self::Many(names) => names.join(","),
        }
    }
}

/// Every mistake in the environment.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} mistake(s):\n  {}", mistakes.len(), mistakes.join("\n  "))]
pub struct ConfigError {
    /// One fragment each, naming the variable.
    pub mistakes: Vec<String>,
}

impl Config {
    /// Reads and checks all variables.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(source: &dyn Source) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(source);
        let frontend_url = frontend_url(&mut reader);
        let frontend_password = Secret::new(reader.required(&vars::FRONTEND_PASSWORD));
        let queues = queues(&mut reader);
        let runtime = runtime_choice(&mut reader);
        let state_dir = PathBuf::from(reader.text(&vars::STATE_DIR));
        if !state_dir.is_absolute() {
            reader.mistake(format!("{} must be an absolute path", vars::STATE_DIR.name));
        }
        let heartbeat_interval = heartbeat_interval(&mut reader);
        let total_jobs = reader.integer(&vars::NUM_TOTAL_JOBS);
        let max_active_time = reader.duration(&vars::MAX_ACTIVE_TIME);
        let mirrors = list(&reader.text(&vars::DOCKER_REGISTRY_MIRROR_URL));
        let config = Self {
            frontend_url,
            frontend_password,
            queues,
            poll_interval: reader.duration(&vars::QUEUE_POLL_INTERVAL),
            heartbeat_interval,
            maximum_jobs: usize::try_from(reader.positive(&vars::MAXIMUM_NUM_JOBS)).unwrap_or(1),
            total_jobs: (total_jobs > 0).then_some(total_jobs),
            max_active_time: (!max_active_time.is_zero()).then_some(max_active_time),
            limits: limits(&mut reader, runtime),
            runtime,
            containers: containers(&mut reader),
            qemu: qemu(&mut reader, &state_dir),
            firecracker: firecracker(&mut reader),
            state_dir,
            image_cache_bytes: reader.size(&vars::IMAGE_CACHE_SIZE),
            repository_cache_bytes: reader.size(&vars::REPOSITORY_CACHE_SIZE),
            cleanup_interval: reader.duration(&vars::CLEANUP_TASK_INTERVAL),
            docker_auth: docker_auth(&mut reader, runtime),
            network: NetworkConfig::read(&mut reader, &mirrors),
            registry_mirrors: mirrors,
            src_cli_image: Some(reader.text(&vars::SRC_CLI_IMAGE))
                .filter(|image| !image.is_empty()),
            warnings: warnings(&reader, runtime),
        };
        if reader.mistakes.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { mistakes: reader.mistakes })
        }
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn frontend_url(reader: &mut Reader) -> Url {
    let placeholder = || Url::parse("http://unset.invalid").expect("the constant is a URL");
    let text = reader.required(&vars::FRONTEND_URL);
    if text.is_empty() {
        return placeholder();
    }
    match Url::parse(&text) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => {
            if !url.username().is_empty() || url.password().is_some() {
                reader.mistake("EXECUTOR_FRONTEND_URL must not contain credentials");
            }
            url
        }
        Ok(_) => {
            reader.mistake(
                "EXECUTOR_FRONTEND_URL must be a URL with scheme and host, such as https://instance.example.com",
            );
            placeholder()
        }
        Err(error) => {
            reader.mistake(format!("invalid URL {text:?} for EXECUTOR_FRONTEND_URL: {error}"));
            placeholder()
        }
    }
}

fn queues(reader: &mut Reader) -> Queues {
    let one = reader.text(&vars::QUEUE_NAME);
    let many = reader.text(&vars::QUEUE_NAMES);
    match (one.is_empty(), many.is_empty()) {
        (true, true) => {
            reader.mistake("neither EXECUTOR_QUEUE_NAME or EXECUTOR_QUEUE_NAMES is set");
        }
        (false, false) => {
            reader.mistake("both EXECUTOR_QUEUE_NAME and EXECUTOR_QUEUE_NAMES are set");
        }
        _ => {}
    }
    let queues = if many.is_empty() { Queues::One(one) } else { Queues::Many(list(&many)) };
    let names = match &queues {
        Queues::One(name) => std::slice::from_ref(name),
        Queues::Many(names) => names.as_slice(),
    };
    for name in names.iter().filter(|name| !name.is_empty()) {
        if !QUEUES.contains(&name.as_str()) {
            reader.mistake(format!("unknown queue {name:?}, expected batches, codeintel or jobs"));
        }
    }
    queues
}

/// Stock executors are told by `EXECUTOR_USE_FIRECRACKER`, which holds where `EXECUTOR_RUNTIME` is not set.
/// Without a sandbox the executor does not run, unless the operator says that this is a danger they know.
fn runtime_choice(reader: &mut Reader) -> RuntimeChoice {
    let name = reader.text(&vars::RUNTIME);
    let use_firecracker = reader.flag(&vars::USE_FIRECRACKER);
    let choice = match (name.as_str(), use_firecracker) {
        ("auto", Some(false)) => RuntimeChoice::Docker,
        ("auto", Some(true)) => RuntimeChoice::MicroVms(VmmChoice::Firecracker),
        ("auto", None) => RuntimeChoice::MicroVms(VmmChoice::Auto),
        ("firecracker", _) => RuntimeChoice::MicroVms(VmmChoice::Firecracker),
        ("qemu", _) => RuntimeChoice::MicroVms(VmmChoice::Qemu),
        ("docker", _) => RuntimeChoice::Docker,
        (name, _) => {
            reader.mistake(format!(
                "EXECUTOR_RUNTIME {name:?} must be auto, firecracker, qemu or docker"
            ));
            RuntimeChoice::MicroVms(VmmChoice::Auto)
        }
    };
    let allowed = reader.flag(&vars::DANGER_ALLOW_CONTAINERS) == Some(true);
    if choice == RuntimeChoice::Docker && !allowed {
        reader.mistake(
            "plain containers share this machine's kernel with every job: set EXECUTOR_DANGER_ALLOW_CONTAINERS=true \
             if all jobs are trusted, or EXECUTOR_RUNTIME=auto for microVMs, which need no KVM",
        );
    }
    choice
}

fn containers(reader: &mut Reader) -> ContainersConfig {
    let docker_host = reader.text(&vars::DOCKER_HOST);
    if !docker_host.is_empty() && !docker_host.starts_with("unix:///") {
        reader.mistake(
            "DOCKER_HOST must be unix:// and the path of a socket: the engine must see this machine's files",
        );
    }
    let path = PathBuf::from(reader.text(&vars::DOCKER_HOST_MOUNT_PATH));
    let host_mount_path = Some(path).filter(|path| !path.as_os_str().is_empty());
    if host_mount_path.as_ref().is_some_and(|path| !path.is_absolute()) {
        reader.mistake("EXECUTOR_DOCKER_HOST_MOUNT_PATH must be an absolute path");
    }
    let host_gateway = reader.flag(&vars::DOCKER_ADD_HOST_GATEWAY).unwrap_or(false);
    ContainersConfig { docker_host, host_mount_path, host_gateway }
}

fn firecracker(reader: &mut Reader) -> FirecrackerConfig {
    let mut limit = |var| Some(reader.integer(var)).filter(|bytes| *bytes > 0);
    let (ingress, egress) = (limit(&vars::BANDWIDTH_INGRESS), limit(&vars::BANDWIDTH_EGRESS));
    FirecrackerConfig {
        binary: PathBuf::from(reader.text(&vars::FIRECRACKER_BINARY)),
        jailer: PathBuf::from(reader.text(&vars::JAILER_BINARY)),
        ingress,
        egress,
    }
}

fn heartbeat_interval(reader: &mut Reader) -> Duration {
    let interval = reader.duration(&vars::HEARTBEAT_INTERVAL);
    if interval.is_zero() || interval > Duration::from_secs(20) {
        reader.mistake("EXECUTOR_HEARTBEAT_INTERVAL must be more than 0 and at most 20s");
    }
    interval
}

fn limits(reader: &mut Reader, runtime: RuntimeChoice) -> JobLimits {
    // For containers 0 is no limit, as with stock executors.
    let boundless = runtime == RuntimeChoice::Docker;
    let vcpus = match boundless {
        true => reader.integer(&vars::JOB_NUM_CPUS),
        false => reader.positive(&vars::JOB_NUM_CPUS),
    };
    let vcpus = u32::try_from(vcpus).unwrap_or(u32::MAX);
    if !boundless && vcpus > 1 && !vcpus.is_multiple_of(2) {
        reader.mistake("EXECUTOR_JOB_NUM_CPUS must be 1 or an even number");
    }
    let memory_bytes = reader.size(&vars::JOB_MEMORY);
    if memory_bytes < 256 << 20 && !(boundless && memory_bytes == 0) {
        reader.mistake("EXECUTOR_JOB_MEMORY must be at least 256M, the guest needs that to start");
    }
    let disk_bytes = reader.size(&vars::JOB_DISK_SPACE);
    if disk_bytes < 64 << 20 {
        reader.mistake("EXECUTOR_FIRECRACKER_DISK_SPACE must be at least 64M");
    }
    let max_runtime = reader.duration(&vars::MAXIMUM_RUNTIME_PER_JOB);
    if max_runtime.is_zero() {
        reader.mistake("EXECUTOR_MAXIMUM_RUNTIME_PER_JOB must be more than 0");
    }
    JobLimits {
        vcpus,
        memory_bytes,
        memory_text: reader.text(&vars::JOB_MEMORY),
        disk_bytes,
        disk_text: reader.text(&vars::JOB_DISK_SPACE),
        max_processes: u32::try_from(reader.positive(&vars::JOB_MAX_PROCESSES)).unwrap_or(u32::MAX),
        max_output_bytes: reader.size(&vars::JOB_MAX_OUTPUT),
        max_runtime,
        max_hold: reader.duration(&vars::MAXIMUM_HOLD),
    }
}

fn qemu(reader: &mut Reader, state_dir: &std::path::Path) -> QemuConfig {
    let vm_prefix = reader.text(&vars::VM_PREFIX);
    if !vm_prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        reader.mistake("EXECUTOR_VM_PREFIX may only have letters, digits and dashes");
    }
    let acceleration = reader.text(&vars::ACCELERATION);
    let acceleration = Acceleration::parse(&acceleration).unwrap_or_else(|| {
        reader.mistake(format!("EXECUTOR_ACCELERATION {acceleration:?} must be auto, kvm or tcg"));
        Acceleration::Auto
    });
    QemuConfig {
        binary: PathBuf::from(reader.text(&vars::QEMU_BINARY)),
        acceleration,
        kernel_dir: kernel_dir_in(reader, state_dir),
        vm_prefix,
        boot_timeout: reader.duration(&vars::BOOT_TIMEOUT),
    }
}

fn kernel_dir_in(reader: &Reader, state_dir: &std::path::Path) -> PathBuf {
    match reader.text(&vars::KERNEL_DIR) {
        unset if unset.is_empty() => state_dir.join("vm-image"),
        dir => PathBuf::from(dir),
    }
}

/// Where kernel and initramfs are, for commands that need nothing else of the configuration.
pub fn kernel_dir(source: &dyn Source) -> PathBuf {
    let reader = Reader::new(source);
    kernel_dir_in(&reader, &PathBuf::from(reader.text(&vars::STATE_DIR)))
}

/// Where `executor install` puts programs.
pub fn programs_dir(source: &dyn Source) -> PathBuf {
    PathBuf::from(Reader::new(source).text(&vars::STATE_DIR)).join(PROGRAMS)
}

fn docker_auth(reader: &mut Reader, runtime: RuntimeChoice) -> DockerAuthConfig {
    let text = reader.text(&vars::DOCKER_AUTH_CONFIG);
    if text.is_empty() {
        return match runtime {
            RuntimeChoice::Docker => reader.docker_log_ins(),
            RuntimeChoice::MicroVms(_) => DockerAuthConfig::default(),
        };
    }
    // The text holds passwords: the message names the place of the mistake, never the text.
    match serde_json::from_str::<DockerAuthConfig>(&text) {
        Ok(config) => {
            for (registry, auth) in &config.auths {
                if auth.credentials().is_none() {
                    reader.mistake(format!(
                        "invalid EXECUTOR_DOCKER_AUTH_CONFIG: auth of registry {registry:?} is not base64 of user:password"
                    ));
                }
            }
            config
        }
        Err(error) => {
            reader.mistake(format!(
                "invalid EXECUTOR_DOCKER_AUTH_CONFIG: not a JSON object with auths, line {} column {}",
                error.line(),
                error.column()
            ));
            DockerAuthConfig::default()
        }
    }
}

fn warnings(reader: &Reader, runtime: RuntimeChoice) -> Vec<String> {
    let of_containers = vars::OF_CONTAINERS.iter().map(|var| (var.name, "jobs run in microVMs"));
    let without_effect = vars::WITHOUT_EFFECT.iter().copied();
    without_effect
        .chain(of_containers.filter(|_| runtime != RuntimeChoice::Docker))
        .filter(|(name, _)| reader.is_set(name))
        .map(|(name, reason)| format!("{name} is set and has no effect: {reason}"))
        .collect()
}

#[cfg(test)]
mod tests;

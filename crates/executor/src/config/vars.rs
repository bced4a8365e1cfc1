//! Every environment variable, once. This table is the source of parsing defaults, of
//! `executor run --help` and of the table in `docs/executor.md` (a test compares them).

/// One variable.
#[derive(Clone, Copy, Debug)]
pub struct Var {
    /// Name in the environment.
    pub name: &'static str,
    /// Value when unset; empty = none.
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub help: &'static str,
}

macro_rules! vars {
    ($($id:ident = $name:literal, $default:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Var = Var { name: $name, default: $default, help: $help };)*
        /// All variables, in the order of the documentation.
        pub const ALL: &[Var] = &[$($id),*];
    };
}

vars! {
    FRONTEND_URL = "EXECUTOR_FRONTEND_URL", "",
        "Base URL of the instance, for example https://instance.example.com. Required.";
    FRONTEND_PASSWORD = "EXECUTOR_FRONTEND_PASSWORD", "",
        "The shared secret, `executors.accessToken` in the site configuration of the instance. Required.";
    QUEUE_NAME = "EXECUTOR_QUEUE_NAME", "",
        "The queue to take jobs from: batches, codeintel or jobs. Exactly one of this and EXECUTOR_QUEUE_NAMES is required.";
    QUEUE_NAMES = "EXECUTOR_QUEUE_NAMES", "",
        "Several queues, separated by commas.";
    QUEUE_POLL_INTERVAL = "EXECUTOR_QUEUE_POLL_INTERVAL", "1s",
        "Time between two questions for a job, where the instance does not hold the question open.";
    HEARTBEAT_INTERVAL = "EXECUTOR_HEARTBEAT_INTERVAL", "5s",
        "Time between two heartbeats, at most 20s: the instance gives a job to another executor after 25s of silence.";
    MAXIMUM_NUM_JOBS = "EXECUTOR_MAXIMUM_NUM_JOBS", "1",
        "Jobs that run at the same time.";
    NUM_TOTAL_JOBS = "EXECUTOR_NUM_TOTAL_JOBS", "0",
        "Exit with 0 after this many jobs; 0 = never.";
    MAX_ACTIVE_TIME = "EXECUTOR_MAX_ACTIVE_TIME", "0",
        "Take no more jobs after this time and exit with 0 when the running ones have ended; 0 = never.";
    MAXIMUM_RUNTIME_PER_JOB = "EXECUTOR_MAXIMUM_RUNTIME_PER_JOB", "30m",
        "Wall-time limit of a job, everything included.";
    MAXIMUM_HOLD = "EXECUTOR_MAXIMUM_HOLD", "1h",
        "Longest time that the machine of a failed job is kept for people to look into it, where its job file or a site admin asks for that. It takes a job's place meanwhile. 0 = never.";
    RUNTIME = "EXECUTOR_RUNTIME", "auto",
        "What isolates jobs: one microVM each, by firecracker (needs KVM and root) or by qemu (on KVM, or by software emulation); auto takes firecracker where it is installed and a trial guest boots, else qemu. docker runs them in plain containers, which needs EXECUTOR_DANGER_ALLOW_CONTAINERS.";
    DANGER_ALLOW_CONTAINERS = "EXECUTOR_DANGER_ALLOW_CONTAINERS", "",
        "true lets jobs run in plain containers: they share this machine's kernel, so that each must be trusted as a user of this machine is.";
    DOCKER_HOST = "DOCKER_HOST", "",
        "Socket of the container engine, Docker or Podman, as unix:///path; empty = /var/run/docker.sock, else /run/podman/podman.sock. For plain containers only.";
    DOCKER_HOST_MOUNT_PATH = "EXECUTOR_DOCKER_HOST_MOUNT_PATH", "",
        "Where the engine sees EXECUTOR_STATE_DIR, if it is not the same path: when the executor itself runs in a container. For plain containers only.";
    DOCKER_ADD_HOST_GATEWAY = "EXECUTOR_DOCKER_ADD_HOST_GATEWAY", "",
        "true lets jobs that have a network reach this machine as host.docker.internal. For plain containers only.";
    FIRECRACKER_BINARY = "EXECUTOR_FIRECRACKER_BINARY", "firecracker",
        "Firecracker, 1.16.1 or later and linked statically: path, or name of what `executor install firecracker` put in place or of a program in PATH.";
    JAILER_BINARY = "EXECUTOR_JAILER_BINARY", "jailer",
        "The jailer of the same version as Firecracker, looked for in the same places.";
    BANDWIDTH_INGRESS = "EXECUTOR_FIRECRACKER_BANDWIDTH_INGRESS", "524288000",
        "Most bytes per second from the network to one job under firecracker; 0 = no limit.";
    BANDWIDTH_EGRESS = "EXECUTOR_FIRECRACKER_BANDWIDTH_EGRESS", "524288000",
        "Most bytes per second from one job to the network under firecracker; 0 = no limit.";
    USE_FIRECRACKER = "EXECUTOR_USE_FIRECRACKER", "",
        "Known to stock executors, and read when EXECUTOR_RUNTIME is not set: true is EXECUTOR_RUNTIME=firecracker, false is EXECUTOR_RUNTIME=docker.";
    JOB_NUM_CPUS = "EXECUTOR_JOB_NUM_CPUS", "4",
        "vCPUs of a job's microVM: 1 or an even number; for containers any number, 0 = no limit. EXECUTOR_FIRECRACKER_NUM_CPUS is read when it is unset.";
    JOB_MEMORY = "EXECUTOR_JOB_MEMORY", "12G",
        "Memory of a job's microVM; for containers 0 = no limit. EXECUTOR_FIRECRACKER_MEMORY is read when it is unset.";
    JOB_DISK_SPACE = "EXECUTOR_FIRECRACKER_DISK_SPACE", "20G",
        "Disk of a job's microVM: what its steps may write. For containers it is watched: a job may exceed it for seconds.";
    JOB_MAX_PROCESSES = "EXECUTOR_JOB_MAX_PROCESSES", "4096",
        "Processes and threads that the steps of a job may have at one time.";
    JOB_MAX_OUTPUT = "EXECUTOR_JOB_MAX_OUTPUT", "100M",
        "Log output of a job; more ends it.";
    BOOT_TIMEOUT = "EXECUTOR_BOOT_TIMEOUT", "2m",
        "Time a microVM has to become ready.";
    ACCELERATION = "EXECUTOR_ACCELERATION", "auto",
        "auto boots a trial microVM to see whether KVM works, and emulates in software if not; kvm ends with an error if not; tcg emulates without a trial.";
    QEMU_BINARY = "EXECUTOR_QEMU_BINARY", "qemu-system-x86_64",
        "QEMU, by path or by name in PATH.";
    VM_PREFIX = "EXECUTOR_VM_PREFIX", "executor",
        "Names of microVMs start with it. Executors on one machine need different prefixes or state directories.";
    STATE_DIR = "EXECUTOR_STATE_DIR", "/var/lib/executor",
        "Directory of everything the executor keeps: caches, the kernel, the folders of running jobs. One executor per directory.";
    KERNEL_DIR = "EXECUTOR_KERNEL_DIR", "",
        "Where `executor install vm-image` puts the kernel and initramfs; empty = `vm-image` in the state directory.";
    IMAGE_CACHE_SIZE = "EXECUTOR_IMAGE_CACHE_SIZE", "50G",
        "Hard limit for cached container images.";
    REPOSITORY_CACHE_SIZE = "EXECUTOR_REPOSITORY_CACHE_SIZE", "50G",
        "Limit for repository mirrors and checkouts together; the least recently used go first.";
    CLEANUP_TASK_INTERVAL = "EXECUTOR_CLEANUP_TASK_INTERVAL", "1m",
        "Time between two sweeps for what dead jobs left behind.";
    DOCKER_AUTH_CONFIG = "EXECUTOR_DOCKER_AUTH_CONFIG", "",
        "Registry credentials as JSON, {\"auths\":{\"<registry>\":{\"auth\":\"<base64 of user:password>\"}}}. A job that brings its own uses those. For plain containers the log-ins of `docker login` in ~/.docker/config.json are read when it is unset, but not credential helpers.";
    DOCKER_REGISTRY_MIRROR_URL = "EXECUTOR_DOCKER_REGISTRY_MIRROR_URL", "",
        "Mirrors of Docker Hub, separated by commas, asked before it.";
    NETWORK = "EXECUTOR_NETWORK", "auto",
        "auto gives a job the network that it or its queue asks for, filtered, which needs root, iproute2 and nftables; none gives no job a network.";
    NETWORK_ALLOW_ADDRESSES = "EXECUTOR_NETWORK_ALLOW_ADDRESSES", "",
        "Networks that jobs may reach although they are private, separated by commas: 10.1.2.0/24, 10.1.2.3:5000, [fd00::1]:443; codeintel=10.1.2.0/24 for jobs of one queue.";
    NETWORK_ALLOW_DOMAINS = "EXECUTOR_NETWORK_ALLOW_DOMAINS", "",
        "With it jobs reach these domains and nothing else: example.com, *.example.com, git.example.com:22; jobs=example.com for jobs of one queue. It takes the place of the list of the site configuration.";
    NETWORK_DNS = "EXECUTOR_NETWORK_DNS", "",
        "DNS servers that answer for jobs, separated by commas; empty = those of /etc/resolv.conf.";
    SRC_CLI_IMAGE = "EXECUTOR_SRC_CLI_IMAGE", "",
        "Image with the src program, in which `src` steps of stock instances run; without it such jobs are refused.";
    LOG_LEVEL = "SRC_LOG_LEVEL", "info",
        "dbug, info, warn, error or none; or a filter such as executor=debug,hyper=warn.";
    LOG_FORMAT = "SRC_LOG_FORMAT", "condensed",
        "condensed for people, json for machines.";
}

/// Read when the first is unset.
pub const FALLBACKS: &[(&str, &str)] = &[
    (JOB_NUM_CPUS.name, "EXECUTOR_FIRECRACKER_NUM_CPUS"),
    (JOB_MEMORY.name, "EXECUTOR_FIRECRACKER_MEMORY"),
];

/// Without effect where jobs run in microVMs.
pub const OF_CONTAINERS: &[Var] = &[DOCKER_HOST_MOUNT_PATH, DOCKER_ADD_HOST_GATEWAY];

/// Known to stock executors and without effect here; setting one gives a warning with the reason.
pub const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("EXECUTOR_FIRECRACKER_IMAGE", "microVMs start from the kernel of `executor install vm-image`"),
    (
        "EXECUTOR_FIRECRACKER_KERNEL_IMAGE",
        "microVMs start from the kernel of `executor install vm-image`",
    ),
    ("EXECUTOR_FIRECRACKER_SANDBOX_IMAGE", "no container wraps the microVM"),
    ("EXECUTOR_VM_STARTUP_SCRIPT_PATH", "the microVM has no system of its own to prepare"),
    ("EXECUTOR_KEEP_WORKSPACES", "the disk of a job lives and dies with its microVM"),
    ("NODE_EXPORTER_URL", "metrics of the machine are not forwarded"),
    ("DOCKER_REGISTRY_NODE_EXPORTER_URL", "metrics of the machine are not forwarded"),
];

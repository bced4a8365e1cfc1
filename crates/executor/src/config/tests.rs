use std::collections::BTreeMap;

use super::*;

fn minimal() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("EXECUTOR_FRONTEND_URL", "https://instance.example/prefix"),
        ("EXECUTOR_FRONTEND_PASSWORD", "s3cret-s3cret-s3cret-01"),
        ("EXECUTOR_QUEUE_NAME", "jobs"),
    ])
}

#[test]
fn defaults_are_those_of_stock_executors() {
    let config = Config::load(&minimal()).unwrap();
    assert_eq!(config.queues, Queues::One("jobs".into()));
    assert_eq!(config.poll_interval, Duration::from_secs(1));
    assert_eq!(config.heartbeat_interval, Duration::from_secs(5));
    assert_eq!(config.maximum_jobs, 1);
    assert_eq!(config.limits.vcpus, 4);
    assert_eq!(config.limits.memory_bytes, 12 << 30);
    assert_eq!(config.limits.disk_bytes, 20 << 30);
    assert_eq!(config.limits.max_runtime, Duration::from_secs(30 * 60));
    assert_eq!((config.total_jobs, config.max_active_time), (None, None));
    assert!(config.warnings.is_empty());
}

#[test]
fn every_default_in_the_table_is_accepted() {
    let mut env = minimal();
    for var in vars::ALL.iter().filter(|var| !var.default.is_empty()) {
        env.insert(var.name, var.default);
    }
    Config::load(&env).unwrap();
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let env = BTreeMap::from([
        ("EXECUTOR_FRONTEND_URL", "instance.example"),
        ("EXECUTOR_QUEUE_NAME", "jobs"),
        ("EXECUTOR_QUEUE_NAMES", "batches,nope"),
        ("EXECUTOR_QUEUE_POLL_INTERVAL", "soon"),
        ("EXECUTOR_MAXIMUM_NUM_JOBS", "many"),
        ("EXECUTOR_JOB_NUM_CPUS", "3"),
        ("EXECUTOR_JOB_MEMORY", "lots"),
        ("EXECUTOR_RUNTIME", "shell"),
        ("EXECUTOR_DOCKER_AUTH_CONFIG", "{\"auths\": hunter2}"),
    ]);
    let error = Config::load(&env).unwrap_err();
    let text = error.to_string();
    for expected in [
        "EXECUTOR_FRONTEND_URL",
        "invalid value \"\" for EXECUTOR_FRONTEND_PASSWORD: no value supplied",
        "both EXECUTOR_QUEUE_NAME and EXECUTOR_QUEUE_NAMES are set",
        "unknown queue \"nope\"",
        "invalid duration \"soon\" for EXECUTOR_QUEUE_POLL_INTERVAL",
        "invalid int \"many\" for EXECUTOR_MAXIMUM_NUM_JOBS",
        "EXECUTOR_JOB_NUM_CPUS must be 1 or an even number",
        "invalid size \"lots\" for EXECUTOR_JOB_MEMORY",
        "EXECUTOR_RUNTIME \"shell\"",
        "invalid EXECUTOR_DOCKER_AUTH_CONFIG",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
    assert!(!text.contains("hunter2"), "a mistake must not show a password:\n{text}");
}

#[test]
fn older_names_are_read_when_the_newer_are_unset() {
    let mut env = minimal();
    env.insert("EXECUTOR_FIRECRACKER_NUM_CPUS", "8");
    env.insert("EXECUTOR_FIRECRACKER_MEMORY", "2G");
    env.insert("EXECUTOR_JOB_MEMORY", "4G");
    let config = Config::load(&env).unwrap();
    assert_eq!((config.limits.vcpus, config.limits.memory_bytes), (8, 4 << 30));
}

#[test]
fn plain_containers_need_a_word_about_the_danger() {
    let mut env = minimal();
    let runtime =
        |env: &BTreeMap<&'static str, &'static str>| Config::load(env).map(|config| config.runtime);
    assert_eq!(runtime(&env).unwrap(), RuntimeChoice::MicroVms(VmmChoice::Auto));
    for (name, value) in [("EXECUTOR_USE_FIRECRACKER", "false"), ("EXECUTOR_RUNTIME", "docker")] {
        env.insert(name, value);
        let refused = Config::load(&env).unwrap_err().to_string();
        assert!(refused.contains("EXECUTOR_DANGER_ALLOW_CONTAINERS=true"), "{refused}");
        env.insert("EXECUTOR_DANGER_ALLOW_CONTAINERS", "true");
        env.insert("EXECUTOR_JOB_NUM_CPUS", "0");
        assert_eq!(runtime(&env).unwrap(), RuntimeChoice::Docker);
        env = minimal();
    }
    env.insert("EXECUTOR_USE_FIRECRACKER", "nope");
    assert_eq!(Config::load(&env).unwrap_err().mistakes.len(), 1, "nothing follows from it");
    env = minimal();
    env.insert("EXECUTOR_DANGER_ALLOW_CONTAINERS", "true");
    assert_eq!(runtime(&env).unwrap(), RuntimeChoice::MicroVms(VmmChoice::Auto));
    env.insert("EXECUTOR_USE_FIRECRACKER", "true");
    assert_eq!(runtime(&env).unwrap(), RuntimeChoice::MicroVms(VmmChoice::Firecracker));
    env.insert("EXECUTOR_RUNTIME", "qemu");
    assert_eq!(runtime(&env).unwrap(), RuntimeChoice::MicroVms(VmmChoice::Qemu));
}

#[test]
fn log_ins_of_docker_hold_for_containers_alone() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    let text = r#"{"auths":{"a.example":{"auth":"dTpw"},"helped.example":{}},"credsStore":"pass"}"#;
    std::fs::write(home.path().join(".docker/config.json"), text).unwrap();
    let mut env = minimal();
    env.insert("HOME", home.path().to_str().unwrap());
    env.insert("EXECUTOR_DANGER_ALLOW_CONTAINERS", "true");
    let hosts = |env: &BTreeMap<&'static str, &str>| {
        Config::load(env).unwrap().docker_auth.auths.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(hosts(&env), [] as [&str; 0]);
    env.insert("EXECUTOR_RUNTIME", "docker");
    assert_eq!(hosts(&env), ["a.example"]);
    env.insert("EXECUTOR_DOCKER_AUTH_CONFIG", r#"{"auths":{"b.example":{"auth":"dTpw"}}}"#);
    assert_eq!(hosts(&env), ["b.example"]);
}

#[test]
fn the_engine_must_be_on_this_machine() {
    let mut env = minimal();
    env.insert("DOCKER_HOST", "tcp://10.0.0.1:2375");
    env.insert("EXECUTOR_DOCKER_HOST_MOUNT_PATH", "state");
    let text = Config::load(&env).unwrap_err().to_string();
    assert!(text.contains("DOCKER_HOST must be unix://"), "{text}");
    assert!(text.contains("EXECUTOR_DOCKER_HOST_MOUNT_PATH must be an absolute path"), "{text}");
}

#[test]
fn useless_settings_are_named() {
    let mut env = minimal();
    env.insert("EXECUTOR_KEEP_WORKSPACES", "1");
    env.insert("EXECUTOR_DOCKER_ADD_HOST_GATEWAY", "true");
    assert_eq!(Config::load(&env).unwrap().warnings.len(), 2);
}

#[test]
fn the_secret_is_never_printed() {
    let config = Config::load(&minimal()).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}

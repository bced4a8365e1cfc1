use std::collections::BTreeMap;

use protocol::{CliStep, DockerStep, VirtualFile};

use super::*;

fn config(extra: &[(&'static str, &'static str)]) -> Config {
    let mut env = BTreeMap::from([
        ("EXECUTOR_FRONTEND_URL", "http://127.0.0.1"),
        ("EXECUTOR_FRONTEND_PASSWORD", "s"),
        ("EXECUTOR_QUEUE_NAME", "jobs"),
        ("EXECUTOR_JOB_MEMORY", "2G"),
    ]);
    env.extend(extra.iter().copied());
    Config::load(&env).unwrap()
}

fn step(key: &str, image: &str, dir: &str) -> DockerStep {
    DockerStep {
        key: key.into(),
        image: image.into(),
        dir: dir.into(),
        commands: vec!["true".into()],
        ..DockerStep::default()
    }
}

fn refusal(job: &Job) -> String {
    let failure = Plan::of_job("jobs", job, &config(&[])).unwrap_err();
    assert_eq!(failure.reason, FailureReason::InvalidJob);
    failure.message
}

#[test]
fn steps_have_the_keys_and_places_of_the_protocol() {
    let job = Job {
        id: 7,
        docker_steps: vec![
            step("indexer", "a:1", "sub/dir/"),
            step("", "b:1", "."),
            step("x", "a:1", "./y"),
        ],
        ..Job::default()
    };
    let plan = Plan::of_job("jobs", &job, &config(&[])).unwrap();
    let keys: Vec<_> = plan.steps.iter().map(|step| step.log_key.as_str()).collect();
    assert_eq!(keys, ["step.docker.indexer", "step.docker.1", "step.docker.x"]);
    let places: Vec<_> = plan.steps.iter().map(|step| step.cwd.as_str()).collect();
    assert_eq!(places, ["/data/sub/dir", "/data", "/data/y"]);
    assert_eq!(plan.images, ["a:1", "b:1"]);
    assert_eq!(plan.steps[2].image, 0);
    assert_eq!(plan.steps[0].argv, ["/bin/sh", "/data/.sourcegraph-executor/7.0_@.sh"]);
}

#[test]
fn src_steps_run_in_their_image_or_are_refused() {
    let job = Job {
        cli_steps: vec![CliStep { command: vec!["version".into()], ..CliStep::default() }],
        ..Job::default()
    };
    assert!(refusal(&job).contains("EXECUTOR_SRC_CLI_IMAGE"));
    let plan = Plan::of_job("jobs", &job, &config(&[("EXECUTOR_SRC_CLI_IMAGE", "src:5")])).unwrap();
    assert_eq!(plan.steps[0].log_key, "step.src.0");
    assert_eq!(plan.steps[0].argv, ["src", "version"]);
    assert_eq!(plan.images, ["src:5"]);
}

#[test]
fn paths_that_leave_the_workspace_are_refused() {
    for path in ["../x", "/etc/passwd", "a/../../x", ""] {
        let files = BTreeMap::from([(path.to_owned(), VirtualFile::default())]);
        assert!(refusal(&Job { files, ..Job::default() }).contains("files"), "{path}");
    }
    for dir in ["..", "/etc", "a/.."] {
        let job = Job { docker_steps: vec![step("", "a:1", dir)], ..Job::default() };
        assert!(refusal(&job).contains("dockerSteps"), "{dir}");
    }
}

#[test]
fn a_job_gets_what_it_asks_for_up_to_the_limits() {
    let ask =
        JobExtensions { vcpus: 2, memory_mib: 512, timeout_seconds: 60, ..Default::default() };
    let resources = Resources::of_job(Some(&ask), &config(&[]).limits).unwrap();
    assert_eq!((resources.vcpus, resources.memory_mib, resources.disk_mib), (2, 512, 20 << 10));
    assert_eq!(resources.max_runtime, Duration::from_secs(60));
    let long = JobExtensions { timeout_seconds: 1 << 40, ..Default::default() };
    let resources = Resources::of_job(Some(&long), &config(&[]).limits).unwrap();
    assert_eq!(resources.max_runtime, Duration::from_secs(1800));
    let large = JobExtensions { memory_mib: 4096, ..Default::default() };
    assert!(refusal(&Job { extensions: Some(large), ..Job::default() }).contains("4096 MiB"));
}

#[test]
fn variables_without_value_are_dropped_and_broken_ones_refused() {
    let mut with_env = step("", "a:1", "");
    with_env.env = vec!["A=1=2".into(), "B".into(), "C=".into()];
    let job = Job { docker_steps: vec![with_env.clone()], ..Job::default() };
    let plan = Plan::of_job("jobs", &job, &config(&[])).unwrap();
    assert_eq!(plan.steps[0].env, ["A=1=2", "C="]);
    with_env.env = vec!["=x".into()];
    refusal(&Job { docker_steps: vec![with_env], ..Job::default() });
}

#[test]
fn the_network_is_what_the_job_its_queue_or_the_executor_says() {
    let network = |queue: &str, extensions: Option<JobExtensions>| {
        let job = Job { extensions, ..Job::default() };
        Plan::of_job(queue, &job, &config(&[])).map(|plan| plan.network)
    };
    let ask = |network: &str| JobExtensions { network: network.to_owned(), ..Default::default() };
    let given = |egress: Option<Egress>| egress.map(|egress| egress.required);
    for queue in ["codeintel", "batches"] {
        assert_eq!(given(network(queue, None).unwrap()), Some(false));
        assert_eq!(given(network(queue, Some(ask("none"))).unwrap()), None);
    }
    assert_eq!(given(network("jobs", None).unwrap()), None);
    assert_eq!(given(network("jobs", Some(ask("egress"))).unwrap()), Some(true));
    let default = JobExtensions { network_optional: true, ..ask("egress") };
    assert_eq!(given(network("jobs", Some(default)).unwrap()), Some(false));
    let narrowed =
        JobExtensions { network_domains: Some(vec!["a.example".into()]), ..ask("egress") };
    let policy = network("jobs", Some(narrowed)).unwrap().unwrap().policy;
    assert_eq!(policy.domains.map(|domains| domains.len()), Some(1));
    for wrong in
        [ask("all"), JobExtensions { network_addresses: vec!["x".into()], ..ask("egress") }]
    {
        let failure = network("jobs", Some(wrong)).unwrap_err();
        assert_eq!(failure.reason, FailureReason::InvalidJob);
    }
}

//! What the original tells the steps of indexing jobs about their machine: `VM_CPUS`, `VM_MEM*` and
//! `VM_DISK*`, from what the executor says on dequeue.

use protocol::{DequeueRequest, Job};

use crate::units::Size;

/// What the original assumes of an executor that does not say.
const DEFAULT_MEMORY: &str = "12G";
const DEFAULT_DISK: &str = "20G";

/// Adds the variables to every container step.
pub(super) fn add(job: &mut Job, request: &DequeueRequest) {
    let mut env = Vec::new();
    if request.num_cpus != 0 {
        env.push(format!("VM_CPUS={}", request.num_cpus));
    }
    for (name, said, default) in [
        ("VM_MEM", &request.memory, DEFAULT_MEMORY),
        ("VM_DISK", &request.disk_space, DEFAULT_DISK),
    ] {
        let size = if said.is_empty() { default } else { said };
        // What cannot be read is left out, as in the original.
        if let Ok(Size(bytes)) = size.parse() {
            env.push(format!("{name}={}", readable(bytes)));
            env.push(format!("{name}_GB={}", bytes >> 30));
            env.push(format!("{name}_MB={}", bytes >> 20));
        }
    }
    for step in &mut job.docker_steps {
        step.env.extend_from_slice(&env);
    }
}

/// `12.0 GB`: one digit, units of 1024.
fn readable(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    match units.into_iter().find(|(unit, _)| bytes > *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::DockerStep;

    fn env(request: &DequeueRequest) -> Vec<String> {
        let step = DockerStep { env: vec!["A=B".into()], ..DockerStep::default() };
        let mut job = Job { docker_steps: vec![step], ..Job::default() };
        add(&mut job, request);
        job.docker_steps.remove(0).env
    }

    #[test]
    fn steps_learn_what_the_executor_says_or_the_defaults() {
        let silent = [
            "A=B",
            "VM_MEM=12.0 GB",
            "VM_MEM_GB=12",
            "VM_MEM_MB=12288",
            "VM_DISK=20.0 GB",
            "VM_DISK_GB=20",
            "VM_DISK_MB=20480",
        ];
        assert_eq!(env(&DequeueRequest::default()), silent);
        let says = DequeueRequest {
            num_cpus: 4,
            memory: "1536M".into(),
            disk_space: "lots".into(),
            ..DequeueRequest::default()
        };
        let expected = ["A=B", "VM_CPUS=4", "VM_MEM=1.5 GB", "VM_MEM_GB=1", "VM_MEM_MB=1536"];
        assert_eq!(env(&says), expected);
    }
}

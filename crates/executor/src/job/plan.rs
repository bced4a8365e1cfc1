//! What a job document means, checked before anything is fetched or started. Pure.

use std::time::Duration;

use microvm::net::EgressPolicy;
use protocol::ext::JobExtensions;
use protocol::{FailureReason, Job};

use super::failure::Failure;
use super::script;
use crate::config::{Config, JobLimits};
use crate::git::CheckoutRequest;

/// Where steps see the workspace.
const WORKSPACE: &str = "/data";
const MIB: u64 = 1 << 20;

/// A job, ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The repository, if there is one.
    pub checkout: Option<CheckoutRequest>,
    /// Distinct images in order of first use.
    pub images: Vec<String>,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Sizes and limits.
    pub resources: Resources,
    /// Its network; `None` = it has none.
    pub network: Option<Egress>,
    /// Globs of artifacts.
    pub artifacts: Vec<String>,
}

/// A network for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// What it may reach.
    pub policy: EgressPolicy,
    /// The job asked for it, and fails without.
    pub required: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `step.docker.<key>` or `step.src.<key>`.
    pub log_key: String,
    /// Index into the plan's images.
    pub image: usize,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute.
    pub cwd: String,
    /// A script to write before the step: path relative to the workspace, and text.
    pub script: Option<(String, String)>,
}

/// Sizes of the microVM and limits of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Scratch disk in MiB.
    pub disk_mib: u64,
    /// Processes and threads.
    pub max_processes: u32,
    /// Log output in bytes.
    pub max_output_bytes: u64,
    /// Wall time, everything included.
    pub max_runtime: Duration,
}

impl Resources {
    /// What the job asks for, where the executor allows it; its own values where the job is silent.
    pub fn of_job(ask: Option<&JobExtensions>, limits: &JobLimits) -> Result<Self, Failure> {
        let silent = JobExtensions::default();
        let ask = ask.unwrap_or(&silent);
        let fit = |what: &str, ask: u64, limit: u64, unit: &str| match ask {
            0 => Ok(limit),
            // Containers may be without limit.
            ask if ask <= limit || limit == 0 => Ok(ask),
            ask => Err(invalid(format!(
                "the job asks for {ask}{unit} {what}, this executor gives at most {limit}{unit}"
            ))),
        };
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let limit_seconds = limits.max_runtime.as_secs().max(1);
        let max_runtime = match ask.timeout_seconds {
            0 => limits.max_runtime,
            seconds => Duration::from_secs(seconds.min(limit_seconds)).min(limits.max_runtime),
        };
        Ok(Self {
            vcpus: small(fit("vCPUs", ask.vcpus.into(), limits.vcpus.into(), "")?),
            memory_mib: fit("of memory", ask.memory_mib, limits.memory_bytes / MIB, " MiB")?,
            disk_mib: fit("of disk", ask.disk_mib, limits.disk_bytes / MIB, " MiB")?,
            max_processes: small(fit(
                "processes",
                ask.max_processes.into(),
                limits.max_processes.into(),
                "",
            )?),
            max_output_bytes: match ask.max_output_bytes {
                0 => limits.max_output_bytes,
                bytes => bytes.min(limits.max_output_bytes),
            },
            max_runtime,
        })
    }
}

impl Egress {
    /// What the job or its queue asks for. Instances that say nothing about it, such as stock ones, have
    /// jobs of the two queues that always had a network.
    fn of_job(queue: &str, job: &Job, config: &Config) -> Result<Option<Self>, Failure> {
        let silent = JobExtensions::default();
        let ask = job.extensions.as_ref().unwrap_or(&silent);
        let required = match ask.network.as_str() {
            "none" => return Ok(None),
            "egress" => !ask.network_optional,
            "" if queue == "jobs" => return Ok(None),
            "" => false,
            other => return Err(invalid(format!("network {other:?} must be none or egress"))),
        };
        let domains = ask.network_domains.as_deref();
        let policy = config.network.policy(queue, &ask.network_addresses, domains);
        let policy = policy.map_err(|error| invalid(error.to_string()))?;
        Ok(Some(Self { policy, required }))
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureReason::InvalidJob, message)
}

impl Plan {
    /// Reads a job.
    ///
    /// # Errors
    /// `invalid_job` with the field that is wrong.
    pub fn of_job(queue: &str, job: &Job, config: &Config) -> Result<Self, Failure> {
        let checkout = CheckoutRequest::of_job(job).map_err(|error| invalid(error.to_string()))?;
        let resources = Resources::of_job(job.extensions.as_ref(), &config.limits)?;
        let network = Egress::of_job(queue, job, config)?;
        for path in job.files.keys() {
            check_path("files", path)?;
        }
        let mut images = Images::default();
        let mut steps = Vec::new();
        for (index, step) in job.docker_steps.iter().enumerate() {
            if step.image.is_empty() {
                return Err(invalid(format!("dockerSteps[{index}]: image is empty")));
            }
            let name = script::name(job.id, index, &job.repository_name, &job.commit);
            let path = format!("{}/{name}", script::DIRECTORY);
            steps.push(Step {
                log_key: log_key("step.docker", &step.key, index),
                image: images.index_of(&step.image),
                argv: vec!["/bin/sh".to_owned(), format!("{WORKSPACE}/{path}")],
                env: checked_env(&step.env)?,
                cwd: directory("dockerSteps", &step.dir)?,
                script: Some((path, script::text(&step.commands))),
            });
        }
        for (index, step) in job.cli_steps.iter().enumerate() {
            let Some(image) = &config.src_cli_image else {
                return Err(invalid(
                    "the job has src steps (cliSteps): set EXECUTOR_SRC_CLI_IMAGE to an image with the src program",
                ));
            };
            let program = std::iter::once("src".to_owned());
            steps.push(Step {
                log_key: log_key("step.src", &step.key, index),
                image: images.index_of(image),
                argv: program.chain(step.command.iter().cloned()).collect(),
                env: checked_env(&step.env)?,
                cwd: directory("cliSteps", &step.dir)?,
                script: None,
            });
        }
        let artifacts =
            job.extensions.as_ref().map(|ext| ext.artifacts.clone()).unwrap_or_default();
        Ok(Self { checkout, images: images.list, steps, resources, network, artifacts })
    }
}

#[derive(Default)]
struct Images {
    list: Vec<String>,
}

impl Images {
    fn index_of(&mut self, image: &str) -> usize {
        self.list.iter().position(|known| known == image).unwrap_or_else(|| {
            self.list.push(image.to_owned());
            self.list.len() - 1
        })
    }
}

fn log_key(prefix: &str, key: &str, index: usize) -> String {
    if key.is_empty() { format!("{prefix}.{index}") } else { format!("{prefix}.{key}") }
}

/// `NAME=value` passes; a bare name would take its value from the executor and is dropped.
fn checked_env(env: &[String]) -> Result<Vec<String>, Failure> {
    if env.iter().any(|variable| variable.contains('\0') || variable.starts_with('=')) {
        return Err(invalid("a variable in env has an empty name or a NUL character"));
    }
    Ok(env.iter().filter(|variable| variable.contains('=')).cloned().collect())
}

/// A path relative to the workspace that stays inside it. Links are the guest's business.
fn check_path(field: &str, path: &str) -> Result<(), Failure> {
    let inside = !path.is_empty()
        && !path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| part != "..");
    if inside {
        Ok(())
    } else {
        Err(invalid(format!("{field}: {path:?} must be a path inside the workspace")))
    }
}

fn directory(field: &str, dir: &str) -> Result<String, Failure> {
    let relative = dir.trim_end_matches('/');
    if relative.is_empty() || relative == "." {
        return Ok(WORKSPACE.to_owned());
    }
    check_path(field, relative)?;
    Ok(format!("{WORKSPACE}/{}", relative.trim_start_matches("./")))
}

#[cfg(test)]
mod tests;

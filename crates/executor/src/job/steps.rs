//! Runs the steps, one after the other, each in its own image on the one workspace.

use std::sync::atomic::{AtomicUsize, Ordering};

use microvm::guest_client::{ExecResult, FailureKind};
use microvm::images::Image;
use microvm::{ExecSpec, GuestError, Stdio};
use protocol::FailureReason;

use super::failure::{Failure, guest_failure};
use super::files;
use super::plan::Step;
use super::skip;
use crate::logs::{JobLog, LogWriter, Stream};
use crate::runtime::{DEFAULT_PATH, Machine, exit_code, image_serial};

/// Runs all steps; `reached` is the index of the last that was begun.
pub(super) async fn run(
    machine: &Machine,
    steps: &[Step],
    images: &[Image],
    log: &JobLog,
    reached: &AtomicUsize,
) -> Result<(), Failure> {
    let mut index = 0;
    while let Some(step) = steps.get(index) {
        reached.store(index, Ordering::Relaxed);
        run_one(machine, step, &images[step.image], log).await?;
        let next = skip::next_step(machine.guest(), steps, index).await;
        index = next.map_err(|error| guest_failure(&error))?;
    }
    Ok(())
}

async fn run_one(
    machine: &Machine,
    step: &Step,
    image: &Image,
    log: &JobLog,
) -> Result<(), Failure> {
    // Written right before it runs: no earlier step can have changed it.
    if let Some((path, text)) = &step.script {
        files::write_script(machine.guest(), path, text).await?;
    }
    let mut entry = log.entry(&step.log_key, Some(&step.argv))?;
    let result = execute(machine, step, image, &mut entry).await;
    let judged = match &result {
        Ok(result) => judge(&step.log_key, result),
        Err(failure) => Err(failure.clone()),
    };
    entry.close(match &result {
        Ok(result) => exit_code(result),
        Err(failure) => failure.exit_code.unwrap_or(-1),
    });
    judged
}

/// How the guest is asked to run a step.
pub(super) fn spec_of(step: &Step, image: &Image) -> ExecSpec {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    env.extend(image.config.env.iter().chain(&step.env).cloned());
    ExecSpec {
        image: image_serial(step.image),
        argv: step.argv.clone(),
        env,
        cwd: step.cwd.clone(),
        user: image.config.user.clone(),
        ..ExecSpec::default()
    }
}

async fn execute(
    machine: &Machine,
    step: &Step,
    image: &Image,
    entry: &mut LogWriter,
) -> Result<ExecResult, Failure> {
    let started = machine.exec(spec_of(step, image)).await;
    let mut exec = started.map_err(|error| start_failure(&step.log_key, &error))?;
    while let Some(chunk) = exec.next().await {
        let stream = match chunk.stdio {
            Stdio::Stdout => Stream::Stdout,
            Stdio::Stderr => Stream::Stderr,
        };
        if let Err(error) = entry.output(stream, &chunk.data) {
            // The machine goes away with the job, and the step with it.
            let _ = exec.kill().await;
            return Err(error.into());
        }
    }
    exec.wait().await.map_err(|error| start_failure(&step.log_key, &error))
}

/// A step that could not start fails like one that ran: 127 is what shells say.
fn start_failure(key: &str, error: &GuestError) -> Failure {
    match error {
        GuestError::Failed(cause) if cause.kind == FailureKind::CannotStart => Failure {
            reason: FailureReason::StepFailed,
            message: format!("running command \"{key}\": {}", cause.message),
            exit_code: Some(127),
        },
        GuestError::TooLarge(_) => {
            Failure::new(FailureReason::InvalidJob, format!("running command \"{key}\": {error}"))
        }
        _ => guest_failure(error),
    }
}

/// What a step's end means. A limit that was hit explains a failure; a step that succeeded in spite
/// of it succeeded.
fn judge(key: &str, result: &ExecResult) -> Result<(), Failure> {
    let code = exit_code(result);
    if code == 0 {
        return Ok(());
    }
    let (reason, cause) = if result.oom {
        (FailureReason::GuestOom, "; a process of it was killed because memory ran out")
    } else if result.disk_full {
        (FailureReason::DiskFull, "; the disk was full")
    } else if result.process_limit {
        (FailureReason::ResourceLimit, "; it reached the limit of processes")
    } else {
        (FailureReason::StepFailed, "")
    };
    let message = format!("running command \"{key}\": command failed with exit code {code}{cause}");
    Err(Failure { reason, message, exit_code: Some(code) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_step_becomes_a_reason() {
        let ended = |code| ExecResult { exit_code: Some(code), ..ExecResult::default() };
        assert_eq!(judge("k", &ended(0)), Ok(()));
        let failed = judge("step.docker.x", &ended(2)).unwrap_err();
        assert_eq!(
            failed.message,
            "running command \"step.docker.x\": command failed with exit code 2"
        );
        assert_eq!((failed.reason, failed.exit_code), (FailureReason::StepFailed, Some(2)));
        let reason = |result| judge("k", &result).unwrap_err().reason;
        assert_eq!(reason(ExecResult { oom: true, ..ended(137) }), FailureReason::GuestOom);
        assert_eq!(reason(ExecResult { disk_full: true, ..ended(1) }), FailureReason::DiskFull);
        assert_eq!(
            reason(ExecResult { process_limit: true, ..ended(1) }),
            FailureReason::ResourceLimit
        );
        assert_eq!(judge("k", &ExecResult { oom: true, ..ended(0) }), Ok(()));
    }

    #[test]
    fn a_signal_counts_as_shells_count_it() {
        let by = |signal| ExecResult { signal: Some(signal), ..ExecResult::default() };
        assert_eq!(exit_code(&by(9)), 137);
        assert_eq!(exit_code(&ExecResult { killed: true, ..by(9) }), -1);
    }
}

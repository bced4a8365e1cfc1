//! An executor's part of a job, played on the database directly.

use protocol::{FailureReason, Phase, Usage};
use store::{Append, ClaimRequest, Finish, Lease, NewLogEntry, Outcome};

use crate::support::Instance;

const NAME: &str = "exec-1";

/// A job that is being run.
pub struct Run<'a> {
    instance: &'a Instance,
    pub id: i64,
    attempt: i64,
    queue: String,
}

impl Instance {
    /// Claims the next job of the queue `jobs`.
    pub async fn run(&self) -> Run<'_> {
        let queues = ["jobs".to_owned()];
        let now = self.clock.now_ms();
        let request = ClaimRequest { queues: &queues, executor: NAME, shares: None, now };
        let claim = self.app.store.claim(&request).await.unwrap().unwrap();
        let (id, attempt, queue) = (claim.job.id, claim.job.attempt, claim.job.queue);
        Run { instance: self, id, attempt, queue }
    }
}

impl Run<'_> {
    fn lease(&self) -> Lease<'_> {
        let attempt = Some(self.attempt);
        Lease { queue: &self.queue, job_id: self.id, executor: NAME, attempt }
    }

    fn now(&self) -> i64 {
        self.instance.clock.now_ms()
    }

    pub async fn phase(&self, phase: Phase, elapsed_ms: i64) {
        let store = &self.instance.app.store;
        store.begin_phase(&self.lease(), phase, elapsed_ms, self.now()).await.unwrap();
    }

    /// A log entry begins.
    pub async fn entry(&self, key: &str) -> i64 {
        let command = ["sh".to_owned()];
        let entry = NewLogEntry {
            key,
            command: Some(&command),
            start_time: "2026-01-02T03:04:05Z",
            exit_code: None,
            duration_ms: None,
            out: b"",
        };
        let store = &self.instance.app.store;
        store.add_log_entry(&self.lease(), &entry, None, self.now()).await.unwrap()
    }

    /// Output of an entry, and with `exit` its end.
    pub async fn output(&self, entry_id: i64, offset: u64, data: &[u8], exit: Option<i64>) {
        let append =
            Append { entry_id, offset, data, exit_code: exit, duration_ms: exit.map(|_| 5) };
        self.instance.app.store.append_log(&self.lease(), &append, self.now()).await.unwrap();
    }

    /// Keeps a file.
    pub async fn artifact(&self, path: &str, content: &[u8]) {
        let blobs = &self.instance.app.blobs;
        let key = instance::blobs::BlobKey::unique("artifacts", &self.id.to_string());
        let mut writer = blobs.create(1 << 20).await.unwrap();
        writer.write(content).await.unwrap();
        let written = writer.publish(&key).await.unwrap();
        let artifact = store::Artifact {
            path: path.to_owned(),
            size: content.len() as i64,
            sha256: hex::encode(written.sha256),
            blob_key: key.as_str().to_owned(),
            at: self.now(),
        };
        let store = &self.instance.app.store;
        store.put_artifact(&self.lease(), &artifact, self.now()).await.unwrap();
    }

    pub async fn completes(&self) {
        self.ends(Outcome::Complete, None, None, None).await;
    }

    /// The step fails with this exit code.
    pub async fn fails(&self, exit: i64) {
        self.ends(Outcome::Failed, Some(FailureReason::StepFailed), Some(exit), None).await;
    }

    /// The step fails, and the machine is kept for so many milliseconds.
    pub async fn fails_and_holds(&self, hold_ms: i64) {
        let reason = Some(FailureReason::StepFailed);
        self.ends(Outcome::Failed, reason, Some(1), Some(hold_ms)).await;
    }

    async fn ends(
        &self,
        outcome: Outcome,
        reason: Option<FailureReason>,
        exit: Option<i64>,
        hold_ms: Option<i64>,
    ) {
        let usage = Usage { cpu_ms: 1500, peak_memory_bytes: 1 << 20, ..Usage::default() };
        let finish = Finish {
            lease: self.lease(),
            outcome,
            reason,
            message: if reason.is_some() { "step 0 failed".into() } else { String::new() },
            exit_code: exit,
            usage: Some(usage),
            hold_ms,
        };
        self.instance.app.store.finish(&finish, self.now()).await.unwrap().unwrap();
    }
}

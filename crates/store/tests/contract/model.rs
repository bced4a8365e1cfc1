//! The queue against a model of it: random commands, and after each the same answer.
//!
//! The model is the slow and obvious version: a list of jobs, sorted when needed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::{Beat, Cancellation, Claim, JobState, NewJob, Outcome, TokenState};

use crate::db::{Db, T0, finish, job};

const QUEUES: [&str; 3] = ["batches", "codeintel", "jobs"];
const WORKERS: usize = 4;

#[derive(Clone, Debug)]
enum Command {
    Enqueue {
        queue: usize,
        user: i64,
        priority: i64,
        delay: i64,
        retries: i64,
    },
    Claim {
        worker: usize,
        queue: usize,
    },
    Heartbeat {
        worker: usize,
    },
    Advance {
        ms: i64,
    },
    Reset,
    /// The report of one of the claims ever made, by its number.
    Finish {
        claim: prop::sample::Index,
        outcome: Outcome,
    },
    Cancel {
        job: prop::sample::Index,
    },
    Retry {
        job: prop::sample::Index,
    },
    Requeue {
        job: prop::sample::Index,
        delay: i64,
    },
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    use Command::*;
    let any = any::<prop::sample::Index>;
    let outcome = prop_oneof![
        3 => Just(Outcome::Complete), 1 => Just(Outcome::Errored), 1 => Just(Outcome::Failed)
    ];
    let delay = prop_oneof![4 => Just(0_i64), 1 => 1..20_000_i64];
    let command = prop_oneof![
        8 => (0..3_usize, 0..4_i64, 0..3_i64, delay.clone(), 0..2_i64).prop_map(
            |(queue, user, priority, delay, retries)| Enqueue {
                queue, user, priority, delay, retries
            }
        ),
        10 => (0..WORKERS, 0..3_usize).prop_map(|(worker, queue)| Claim { worker, queue }),
        4 => (0..WORKERS).prop_map(|worker| Heartbeat { worker }),
        4 => prop_oneof![1..100_i64, Just(10_000), Just(26_000)].prop_map(|ms| Advance { ms }),
        3 => Just(Reset),
        6 => (any(), outcome).prop_map(|(claim, outcome)| Finish { claim, outcome }),
        2 => any().prop_map(|job| Cancel { job }),
        2 => any().prop_map(|job| Retry { job }),
        1 => (any(), delay).prop_map(|(job, delay)| Requeue { job, delay }),
    ];
    prop::collection::vec(command, 1..120)
}

#[derive(Clone, Debug)]
struct Model {
    now: i64,
    jobs: BTreeMap<i64, ModelJob>,
    /// Last turn by queue, priority and lane.
    turns: BTreeMap<(usize, i64, i64), i64>,
    /// Claims that went to other lanes while this one had a ready job.
    passed_over: BTreeMap<(usize, i64, i64), usize>,
}

#[derive(Clone, Debug)]
struct ModelJob {
    queue: usize,
    lane: i64,
    priority: i64,
    state: JobState,
    queued_at: i64,
    process_after: Option<i64>,
    owner: Option<usize>,
    attempt: i64,
    last_beat: i64,
    cancel: bool,
    lost: bool,
    resets: i64,
    failures: i64,
    retries: i64,
}

impl ModelJob {
    fn ready(&self) -> bool {
        self.state == JobState::Queued && self.process_after.is_none()
    }

    fn running_on(&self, worker: usize) -> bool {
        self.state == JobState::Processing && self.owner == Some(worker)
    }
}

impl Model {
    fn lane_of(queue: usize, user: i64, priority: i64) -> (i64, i64) {
        match QUEUES[queue] {
            "batches" => (user, 0),
            "codeintel" => (0, i64::from(user > 0)),
            _ => (user, priority),
        }
    }

    fn promote(&mut self, queue: usize) {
        for job in self.jobs.values_mut().filter(|job| job.queue == queue) {
            let waits = matches!(job.state, JobState::Queued | JobState::Errored);
            if let Some(due) = job.process_after.filter(|due| waits && *due <= self.now) {
                job.state = JobState::Queued;
                job.process_after = None;
                job.queued_at = due;
            }
        }
    }

    fn turn(&self, key: (usize, i64, i64)) -> i64 {
        self.turns.get(&key).copied().unwrap_or(0)
    }

    /// Which job must be claimed next.
    fn next(&self, queue: usize) -> Option<i64> {
        let ready = self.jobs.iter().filter(|(_, job)| job.queue == queue && job.ready());
        let order = |(id, job): &(&i64, &ModelJob)| {
            let turn = self.turn((queue, job.priority, job.lane));
            (-job.priority, turn, job.lane, job.queued_at, **id)
        };
        ready.min_by_key(order).map(|(id, _)| *id)
    }

    fn claim(&mut self, id: i64, worker: usize) {
        let queue = self.jobs[&id].queue;
        let mine = (queue, self.jobs[&id].priority, self.jobs[&id].lane);
        self.check_fairness(mine);
        let last = self.turns.iter().filter(|((q, ..), _)| *q == queue).map(|(_, turn)| *turn);
        let turn = last.max().unwrap_or(0) + 1;
        self.turns.insert(mine, turn);
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("the model's own id");
        assert!(job.ready(), "an owned job was claimed");
        job.state = JobState::Processing;
        job.owner = Some(worker);
        job.attempt += 1;
        job.last_beat = now;
        job.lost = false;
    }

    /// A user with a ready job is passed over at most once by each other user of the same priority.
    fn check_fairness(&mut self, mine: (usize, i64, i64)) {
        let (queue, priority, _) = mine;
        let peers = self.jobs.values().filter(|j| j.queue == queue && j.priority == priority);
        let mut lanes: Vec<i64> = peers.clone().map(|job| job.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        for lane in &lanes {
            let key = (queue, priority, *lane);
            let ready = peers.clone().any(|job| job.lane == *lane && job.ready());
            let passed = self.passed_over.entry(key).or_default();
            if key == mine || !ready {
                *passed = 0;
            } else {
                *passed += 1;
                assert!(*passed < lanes.len(), "user {lane} starves");
            }
        }
    }

    fn end(&mut self, id: i64, outcome: Outcome) -> JobState {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("the model's own id");
        let state = match outcome {
            Outcome::Complete => JobState::Completed,
            _ if job.cancel => JobState::Canceled,
            Outcome::Errored if job.failures < job.retries => JobState::Errored,
            _ => JobState::Failed,
        };
        job.failures += i64::from(outcome != Outcome::Complete && !job.cancel);
        job.process_after = (state == JobState::Errored).then_some(now + 10_000);
        job.state = state;
        job.lost = false;
        state
    }

    fn reset(&mut self) -> Vec<(i64, JobState)> {
        let now = self.now;
        let silent =
            |job: &&mut ModelJob| job.state == JobState::Processing && now - job.last_beat > 25_000;
        let mut resets = Vec::new();
        for (id, job) in &mut self.jobs {
            let Some(job) = Some(job).filter(silent) else { continue };
            if job.cancel {
                job.state = JobState::Canceled;
            } else if job.resets >= 3 {
                job.state = JobState::Failed;
            } else {
                job.state = JobState::Queued;
                job.lost = true;
                job.resets += 1;
            }
            resets.push((*id, job.state));
        }
        resets
    }
}

/// The store and its model, stepped together.
struct Pair {
    db: Db,
    model: Model,
    claims: Vec<(Claim, usize)>,
}

impl Pair {
    fn pick(&self, index: prop::sample::Index) -> Option<i64> {
        let ids: Vec<i64> = self.model.jobs.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[index.index(ids.len())])
    }

    async fn step(&mut self, command: &Command) {
        match command {
            Command::Enqueue { queue, user, priority, delay, retries } => {
                self.enqueue(*queue, *user, *priority, *delay, *retries).await;
            }
            Command::Claim { worker, queue } => self.claim(*worker, *queue).await,
            Command::Heartbeat { worker } => self.heartbeat(*worker).await,
            Command::Advance { ms } => self.model.now += ms,
            Command::Reset => {
                let resets = self.db.reset_stalled(self.model.now).await.unwrap();
                let got: Vec<_> = resets.iter().map(|reset| (reset.job_id, reset.state)).collect();
                assert_eq!(got, self.model.reset());
            }
            Command::Finish { claim, outcome } => self.finish(*claim, *outcome).await,
            Command::Cancel { job } => self.cancel(*job).await,
            Command::Retry { job } => self.retry(*job).await,
            Command::Requeue { job, delay } => self.requeue(*job, *delay).await,
        }
    }

    async fn enqueue(&mut self, queue: usize, user: i64, priority: i64, delay: i64, retries: i64) {
        let now = self.model.now;
        let process_after = (delay > 0).then_some(now + delay);
        let new =
            NewJob { priority, process_after, max_retries: retries, ..job(QUEUES[queue], user) };
        let id = self.db.enqueue(&new, now).await.unwrap().id;
        let (lane, priority) = Model::lane_of(queue, user, priority);
        let job = ModelJob {
            queue,
            lane,
            priority,
            process_after,
            retries,
            state: JobState::Queued,
            queued_at: now,
            owner: None,
            attempt: 0,
            last_beat: 0,
            cancel: false,
            lost: false,
            resets: 0,
            failures: 0,
        };
        assert!(self.model.jobs.insert(id, job).is_none(), "an id was given twice");
    }

    async fn claim(&mut self, worker: usize, queue: usize) {
        let now = self.model.now;
        self.model.promote(queue);
        let expected = self.model.next(queue);
        let claim = self.db.claim_one(QUEUES[queue], &format!("exec-{worker}"), now).await;
        assert_eq!(claim.as_ref().map(|claim| claim.job.id), expected);
        if let Some(claim) = claim {
            self.model.claim(claim.job.id, worker);
            assert_eq!(claim.job.attempt, self.model.jobs[&claim.job.id].attempt);
            self.claims.push((claim, worker));
        }
    }

    async fn heartbeat(&mut self, worker: usize) {
        let now = self.model.now;
        let mut ids: Vec<i64> = self.model.jobs.keys().copied().collect();
        ids.push(1_000_000);
        let beats = self.db.heartbeat(&format!("exec-{worker}"), &ids, now).await.unwrap();
        let mut expected = Vec::new();
        for (id, job) in &mut self.model.jobs {
            let cut_off = job.state == JobState::Queued && job.lost && job.owner == Some(worker);
            if cut_off {
                job.state = JobState::Processing;
                job.lost = false;
            }
            if job.running_on(worker) {
                job.last_beat = now;
                let queue = QUEUES[job.queue].to_owned();
                expected.push(Beat { job_id: *id, queue, cancel: job.cancel, hold: None });
            }
        }
        assert_eq!(beats, expected);
    }

    async fn finish(&mut self, index: prop::sample::Index, outcome: Outcome) {
        if self.claims.is_empty() {
            return;
        }
        let (claim, worker) = self.claims[index.index(self.claims.len())].clone();
        let id = claim.job.id;
        let job = &self.model.jobs[&id];
        let current = job.attempt == claim.job.attempt && job.owner == Some(worker);
        let expected = match job.state {
            JobState::Processing if current => TokenState::Live,
            JobState::Queued if current && job.lost => TokenState::Lost,
            _ => TokenState::Dead,
        };
        let token = self.db.job_token(claim.token.expose()).await.unwrap().unwrap();
        assert_eq!(token.state, expected);
        let done = self.db.finish(&finish(&claim, outcome), self.model.now).await.unwrap();
        let state = (expected != TokenState::Dead).then(|| self.model.end(id, outcome));
        assert_eq!(done.map(|done| done.state), state);
    }

    async fn cancel(&mut self, index: prop::sample::Index) {
        let Some(id) = self.pick(index) else { return };
        let got = self.db.cancel(id, "", self.model.now).await.unwrap();
        let job = self.model.jobs.get_mut(&id).unwrap();
        let expected = match job.state {
            JobState::Queued | JobState::Errored => {
                job.state = JobState::Canceled;
                job.process_after = None;
                job.lost = false;
                Cancellation::Canceled
            }
            JobState::Processing => {
                job.cancel = true;
                Cancellation::Requested
            }
            state => Cancellation::AlreadyFinished(state),
        };
        assert_eq!(got, expected);
    }

    async fn retry(&mut self, index: prop::sample::Index) {
        let Some(id) = self.pick(index) else { return };
        let now = self.model.now;
        let done = self.db.retry(id, now).await;
        let job = self.model.jobs.get_mut(&id).unwrap();
        let allowed = !matches!(job.state, JobState::Queued | JobState::Processing);
        assert_eq!(done.is_ok(), allowed, "{:?}", job.state);
        if allowed {
            job.state = JobState::Queued;
            job.queued_at = now;
            job.process_after = None;
            (job.cancel, job.lost, job.resets, job.failures) = (false, false, 0, 0);
        }
    }

    async fn requeue(&mut self, index: prop::sample::Index, delay: i64) {
        let Some(id) = self.pick(index) else { return };
        let now = self.model.now;
        let after = (delay > 0).then_some(now + delay);
        let done = self.db.requeue(id, after, now).await;
        let job = self.model.jobs.get_mut(&id).unwrap();
        assert_eq!(done.is_ok(), job.state == JobState::Processing);
        if done.is_ok() {
            job.state = JobState::Queued;
            job.queued_at = now;
            job.process_after = after;
            job.cancel = false;
        }
    }

    /// Every job is where the model says, and none is gone.
    async fn check(&self) {
        let filter = store::JobFilter { limit: 500, ..store::JobFilter::default() };
        let jobs = self.db.jobs(&filter).await.unwrap();
        assert_eq!(jobs.len(), self.model.jobs.len());
        for job in jobs {
            let expected = &self.model.jobs[&job.id];
            assert_eq!(job.state, expected.state, "job {}", job.id);
            assert_eq!(job.attempt, expected.attempt, "job {}", job.id);
            assert_eq!(job.process_after, expected.process_after, "job {}", job.id);
            assert_eq!(job.num_resets, expected.resets, "job {}", job.id);
            assert_eq!(job.num_failures, expected.failures, "job {}", job.id);
        }
    }
}

async fn run(db: Db, commands: Vec<Command>) {
    let model = Model {
        now: T0,
        jobs: BTreeMap::new(),
        turns: BTreeMap::new(),
        passed_over: BTreeMap::new(),
    };
    let mut pair = Pair { db, model, claims: Vec::new() };
    for command in &commands {
        pair.step(command).await;
    }
    pair.check().await;
    // What is left can all be claimed, in the model's order.
    pair.model.now += 1_000_000;
    for queue in 0..QUEUES.len() {
        loop {
            let claims = pair.claims.len();
            pair.claim(0, queue).await;
            if pair.claims.len() == claims {
                break;
            }
        }
    }
    pair.check().await;
}

fn check_model(cases: u32, open: impl AsyncFn() -> Option<Db>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&commands(), |commands| {
        runtime.block_on(async {
            if let Some(db) = open().await {
                run(db, commands).await;
            }
        });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn the_queue_behaves_like_its_model_on_sqlite() {
    check_model(64, async || Some(Db::sqlite().await));
}

#[test]
fn the_queue_behaves_like_its_model_on_postgres() {
    check_model(10, Db::postgres);
}

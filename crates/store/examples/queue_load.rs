//! How fast the queue is under load, by hand:
//!
//! `cargo run -p store --example queue_load -- URL [ROWS] [USERS]`
//!
//! The database must be a fresh one. Each figure stands beside a plain `ping` of the same database in
//! the same run, because machines differ and are shared.

use std::time::{Duration, Instant};

use store::{Append, Claim, ClaimRequest, Finish, Lease, NewJob, NewLogEntry, Outcome, Store};

const NOW: i64 = 1_750_000_000_000;
const SAMPLES: usize = 2000;
const WORKERS: usize = 16;

#[tokio::main]
async fn main() -> Result<(), store::Error> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the first argument is the URL of a fresh database");
    let mut number = |default: i64| {
        arguments.next().map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (rows, users) = (number(100_000), number(100));
    let store = Store::open(&url).await?;

    let start = Instant::now();
    for first in (0..rows).step_by(5000) {
        let jobs: Vec<NewJob> = (first..rows.min(first + 5000)).map(|n| job(n % users)).collect();
        store.enqueue_many(&jobs, NOW).await?;
    }
    println!("enqueue {rows} rows of {users} users: {:.1?}", start.elapsed());

    let mut pings = Vec::new();
    let mut claims = Vec::new();
    let mut lone = Vec::new();
    for _ in 0..SAMPLES {
        pings.push(timed(store.ping()).await?.0);
        let (time, claim) = timed(claim(&store, "exec-1")).await?;
        assert!(claim.is_some(), "the queue is empty: more rows are needed");
        claims.push(time);
        lone.push(timed(store.enqueue(&job(1), NOW)).await?.0);
    }
    report("ping", pings);
    report("claim, one executor", claims);
    report("enqueue, one by one", lone);
    report("claim, 16 executors at once", contended(&store).await?);
    report("empty look", empty(&store).await?);

    let start = Instant::now();
    let cycles = WORKERS * 50;
    let mut tasks = Vec::new();
    for worker in 0..WORKERS {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                cycle(&store, &format!("exec-{worker}")).await?;
            }
            Ok::<_, store::Error>(())
        }));
    }
    for task in tasks {
        task.await.expect("a task of this program")?;
    }
    let rate = cycles as f64 / start.elapsed().as_secs_f64();
    println!("cycles (enqueue, claim, log, append, complete), {WORKERS} at once: {rate:.0}/s");
    Ok(())
}

fn job(user: i64) -> NewJob {
    NewJob {
        queue: "batches".into(),
        name: "load".into(),
        creator_id: user + 1,
        payload: "{}".into(),
        ..NewJob::default()
    }
}

async fn claim(store: &Store, executor: &str) -> Result<Option<Claim>, store::Error> {
    let queues = ["batches".to_owned()];
    store.claim(&ClaimRequest { queues: &queues, executor, shares: None, now: NOW }).await
}

async fn contended(store: &Store) -> Result<Vec<Duration>, store::Error> {
    let mut tasks = Vec::new();
    for worker in 0..WORKERS {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..SAMPLES / WORKERS {
                times.push(timed(claim(&store, &format!("exec-{worker}"))).await?.0);
            }
            Ok::<_, store::Error>(times)
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a task of this program")?);
    }
    Ok(times)
}

/// What a held dequeue costs each time it looks and finds nothing.
async fn empty(store: &Store) -> Result<Vec<Duration>, store::Error> {
    let queues = ["codeintel".to_owned()];
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        let request = ClaimRequest { queues: &queues, executor: "exec-1", shares: None, now: NOW };
        times.push(timed(store.claim(&request)).await?.0);
    }
    Ok(times)
}

async fn cycle(store: &Store, executor: &str) -> Result<(), store::Error> {
    store.enqueue(&job(1), NOW).await?;
    let Some(claim) = claim(store, executor).await? else { return Ok(()) };
    let lease = Lease {
        queue: &claim.job.queue,
        job_id: claim.job.id,
        executor,
        attempt: Some(claim.job.attempt),
    };
    let entry = NewLogEntry { key: "step.docker.0", ..NewLogEntry::default() };
    let entry_id = store.add_log_entry(&lease, &entry, Some(1), NOW).await?;
    let append =
        Append { entry_id, data: b"stdout: hello\n", exit_code: Some(0), ..Append::default() };
    store.append_log(&lease, &append, NOW).await?;
    let end = Finish {
        lease,
        outcome: Outcome::Complete,
        reason: None,
        message: String::new(),
        exit_code: None,
        usage: None,
        hold_ms: None,
    };
    assert!(store.finish(&end, NOW).await?.is_some());
    Ok(())
}

async fn timed<T>(
    work: impl Future<Output = Result<T, store::Error>>,
) -> Result<(Duration, T), store::Error> {
    let start = Instant::now();
    let value = work.await?;
    Ok((start.elapsed(), value))
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:.2?}, p99 {:.2?}, max {:.2?}", at(0.5), at(0.99), at(1.0));
}

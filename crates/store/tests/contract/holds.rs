//! Machines of failed jobs that are kept, and terminals to them.

use protocol::hold::{HoldEnd, LOST_AFTER_MS, MAX_INPUT, MAX_OUTPUT, MAX_TERMINALS};
use store::{
    Appended, Claim, Error, HoldChange, JobState, NewJob, NewTerminal, Opened, Outcome, Release,
    Retention, Store, Stream, Terminal, TerminalAppend, TerminalEnd, Topic, Wish,
};

use crate::contract;
use crate::db::{Db, T0, finish, job};

const MINUTE: i64 = 60_000;
const ADA: NewTerminal<'_> = NewTerminal { user_id: 7, user_name: "ada", cols: 80, rows: 24 };

/// A failed job whose machine is kept for ten minutes from `T0` on.
async fn held(db: &Db) -> Claim {
    let claim = db.running(T0).await;
    let mut end = finish(&claim, Outcome::Failed);
    end.hold_ms = Some(10 * MINUTE);
    assert_eq!(db.finish(&end, T0).await.unwrap().unwrap().state, JobState::Failed);
    claim
}

async fn open(db: &Store, claim: &Claim, now: i64) -> Terminal {
    match db.open_terminal(claim.job.id, claim.job.attempt, &ADA, now).await.unwrap() {
        Opened::Terminal(terminal) => terminal,
        refused => panic!("{refused:?}"),
    }
}

fn piece(stream: Stream, offset: u64, data: &[u8]) -> TerminalAppend<'_> {
    TerminalAppend { stream, offset, data, exit_code: None }
}

contract! {
    async fn a_failed_job_is_held_under_its_own_token(db) {
        let claim = held(db).await;
        let token = db.hold_of_token(claim.token.expose()).await.unwrap().unwrap();
        assert_eq!((token.job_id, token.queue.as_str()), (claim.job.id, "jobs"));
        let hold = token.hold.unwrap();
        assert_eq!((hold.attempt, hold.executor.as_str()), (1, "exec-1"));
        assert_eq!((hold.held_at, hold.held_until), (T0, T0 + 10 * MINUTE));
        assert_eq!((hold.remaining_ms(T0 + MINUTE), hold.remaining_ms(T0 + 99 * MINUTE)), (9 * MINUTE as u64, 0));
        assert_eq!(db.open_holds().await.unwrap(), [hold]);
        let job_token = db.job_token(claim.token.expose()).await.unwrap().unwrap();
        assert_eq!(job_token.state, store::TokenState::Dead, "it opens nothing else");
        assert_eq!(db.hold_of_token("00").await.unwrap(), None);
    }

    async fn what_is_not_failed_or_not_the_executors_is_not_held(db) {
        for (outcome, cancel) in [(Outcome::Complete, false), (Outcome::Failed, true)] {
            let claim = db.running(T0).await;
            if cancel {
                db.cancel(claim.job.id, "", T0).await.unwrap();
            }
            let mut end = finish(&claim, outcome);
            end.hold_ms = Some(MINUTE);
            db.finish(&end, T0).await.unwrap().unwrap();
            assert_eq!(db.hold(claim.job.id, 1).await.unwrap(), None, "{outcome:?}");
            let token = db.hold_of_token(claim.token.expose()).await.unwrap().unwrap();
            assert_eq!(token.hold, None);
        }
        for hold_ms in [None, Some(0), Some(-1)] {
            let claim = db.running(T0).await;
            let mut end = finish(&claim, Outcome::Failed);
            end.hold_ms = hold_ms;
            db.finish(&end, T0).await.unwrap().unwrap();
            assert_eq!(db.hold(claim.job.id, 1).await.unwrap(), None, "{hold_ms:?}");
        }
        let claim = db.running(T0).await;
        let mut end = finish(&claim, Outcome::Failed);
        end.hold_ms = Some(MINUTE);
        end.lease.attempt = None;
        db.finish(&end, T0).await.unwrap().unwrap();
        assert_eq!(db.open_holds().await.unwrap(), [], "nobody has a token for it");
    }

    async fn a_job_that_runs_again_stays_held_attempt_by_attempt(db) {
        db.enqueue(&NewJob { max_retries: 1, ..job("jobs", 1) }, T0).await.unwrap();
        for (attempt, now, state) in
            [(1, T0, JobState::Errored), (2, T0 + 10_000, JobState::Failed)]
        {
            let claim = db.claim_one("jobs", "exec-1", now).await.unwrap();
            let mut end = finish(&claim, Outcome::Errored);
            end.hold_ms = Some(10 * MINUTE);
            assert_eq!(db.finish(&end, now).await.unwrap().unwrap().state, state);
            let holds = db.holds(claim.job.id).await.unwrap();
            assert_eq!(holds.len(), attempt);
            assert!(holds.iter().all(store::Hold::is_open));
        }
    }

    async fn the_late_result_of_a_lost_attempt_may_hold(db) {
        let claim = db.running(T0).await;
        db.reset_stalled(T0 + MINUTE).await.unwrap();
        let mut end = finish(&claim, Outcome::Failed);
        end.hold_ms = Some(MINUTE);
        db.finish(&end, T0 + MINUTE).await.unwrap().unwrap();
        assert!(db.hold(claim.job.id, 1).await.unwrap().unwrap().is_open());
    }

    async fn a_wish_is_told_with_each_beat_until_a_person_runs_the_job_again(db) {
        let queued = db.enqueue_one("jobs", 1, T0).await;
        assert_eq!(db.wish_hold(queued, 60, T0).await.unwrap(), Wish::Noted, "before it runs");
        let claim = db.claim_one("jobs", "exec-1", T0).await.unwrap();
        assert_eq!(claim.job.hold_seconds, 60);
        let mut executor = db.subscribe([Topic::Executor("exec-1".into())]);
        assert_eq!(db.wish_hold(queued, 1800, T0 + 5).await.unwrap(), Wish::Noted);
        executor.changed().await;
        let beats = db.heartbeat("exec-1", &[queued], T0 + 6).await.unwrap();
        assert_eq!(beats[0].hold, Some(HoldChange { seconds: 1800, at: T0 + 5 }));
        db.wish_hold(queued, 0, T0 + 7).await.unwrap();
        let beats = db.heartbeat("exec-1", &[queued], T0 + 8).await.unwrap();
        assert_eq!(beats[0].hold, Some(HoldChange { seconds: 0, at: T0 + 7 }), "0 is said too");
        // Lost and taken back: the wish is still there.
        db.reset_stalled(T0 + MINUTE).await.unwrap();
        let beats = db.heartbeat("exec-1", &[queued], T0 + MINUTE).await.unwrap();
        assert_eq!(beats[0].hold, Some(HoldChange { seconds: 0, at: T0 + 7 }));

        db.finish(&finish(&claim, Outcome::Failed), T0 + MINUTE).await.unwrap().unwrap();
        let late = db.wish_hold(queued, 60, T0 + MINUTE).await.unwrap();
        assert_eq!(late, Wish::AlreadyFinished(JobState::Failed));
        db.retry(queued, T0 + MINUTE).await.unwrap();
        assert_eq!(db.job(queued).await.unwrap().unwrap().hold_seconds, 0);
        assert!(matches!(db.wish_hold(999, 1, T0).await, Err(Error::NotFound { .. })));
    }

    async fn the_job_file_counts_until_an_admin_says_otherwise(db) {
        let new = NewJob { hold_seconds: 900, ..job("jobs", 1) };
        let id = db.enqueue(&new, T0).await.unwrap().id;
        let claim = db.claim_one("jobs", "exec-1", T0).await.unwrap();
        assert_eq!(claim.job.hold_seconds, 900);
        let beats = db.heartbeat("exec-1", &[id], T0).await.unwrap();
        assert_eq!(beats[0].hold, None, "the executor has it from the job document");
        db.wish_hold(id, 0, T0).await.unwrap();
        assert_eq!(db.job(id).await.unwrap().unwrap().hold_seconds, 0);
        db.finish(&finish(&claim, Outcome::Failed), T0).await.unwrap().unwrap();
        db.retry(id, T0).await.unwrap();
        assert_eq!(db.job(id).await.unwrap().unwrap().hold_seconds, 900);
    }

    async fn a_hold_ends_once_and_takes_its_terminals_along(db) {
        let claim = held(db).await;
        let (id, terminal) = (claim.job.id, open(db, &claim, T0 + 1).await);
        assert_eq!(db.release_hold(id, 1, "ada").await.unwrap(), Release::Asked);
        assert_eq!(db.release_hold(id, 1, "bob").await.unwrap(), Release::Asked, "twice");
        let hold = db.hold(id, 1).await.unwrap().unwrap();
        assert_eq!((hold.released_by.as_str(), hold.is_open()), ("ada", true));
        let refused = db.open_terminal(id, 1, &ADA, T0 + 2).await.unwrap();
        assert_eq!(refused, Opened::NotHeld, "it is about to go");

        let mut page = db.subscribe([Topic::Terminal(terminal.id)]);
        assert!(db.end_hold(id, 1, HoldEnd::Released, T0 + 3).await.unwrap());
        page.changed().await;
        assert!(!db.end_hold(id, 1, HoldEnd::Expired, T0 + 4).await.unwrap(), "twice");
        assert!(!db.end_hold(id, 2, HoldEnd::Expired, T0 + 4).await.unwrap(), "none");
        let hold = db.hold_of_token(claim.token.expose()).await.unwrap().unwrap().hold.unwrap();
        assert_eq!((hold.ended_at, hold.end), (Some(T0 + 3), Some(HoldEnd::Released)));
        let terminal = db.terminal(terminal.id).await.unwrap().unwrap();
        assert_eq!((terminal.closed_at, terminal.end), (Some(T0 + 3), Some(TerminalEnd::HoldEnded)));
        assert_eq!(db.release_hold(id, 1, "ada").await.unwrap(), Release::AlreadyEnded);
        assert!(matches!(db.release_hold(id, 9, "ada").await, Err(Error::NotFound { .. })));
        assert_eq!(db.open_holds().await.unwrap(), []);
    }

    async fn a_silent_executor_loses_its_hold_and_a_lying_one_too(db) {
        let claim = held(db).await;
        let id = claim.job.id;
        assert!(db.end_lost_holds(T0 + LOST_AFTER_MS).await.unwrap().is_empty());
        db.hold_seen(id, 1, T0 + MINUTE).await.unwrap();
        assert!(db.end_lost_holds(T0 + MINUTE + LOST_AFTER_MS).await.unwrap().is_empty());
        let ended = db.end_lost_holds(T0 + MINUTE + LOST_AFTER_MS + 1).await.unwrap();
        assert_eq!((ended.len(), ended[0].0.job_id, ended[0].1), (1, id, HoldEnd::ExecutorLost));
        assert!(db.end_lost_holds(T0 + 99 * MINUTE).await.unwrap().is_empty(), "once");
        db.hold_seen(id, 1, T0 + 99 * MINUTE).await.unwrap();
        assert!(!db.hold(id, 1).await.unwrap().unwrap().is_open(), "it does not come back");

        let id = held(db).await.job.id;
        let over = T0 + 10 * MINUTE + 15_001;
        db.hold_seen(id, 1, over).await.unwrap();
        assert!(db.end_lost_holds(over - 1).await.unwrap().is_empty());
        let ended = db.end_lost_holds(over).await.unwrap();
        assert_eq!(ended[0].1, HoldEnd::Expired, "it asks for ever");
    }

    async fn four_terminals_are_open_at_a_time(db) {
        let claim = held(db).await;
        let (id, mut hold) = (claim.job.id, db.subscribe([Topic::Hold(claim.job.id)]));
        let mut terminals = Vec::new();
        for n in 0..MAX_TERMINALS {
            terminals.push(open(db, &claim, T0 + n as i64).await);
            hold.changed().await;
        }
        assert_eq!(db.open_terminal(id, 1, &ADA, T0).await.unwrap(), Opened::TooMany);
        assert_eq!(db.terminals(id).await.unwrap(), terminals);
        assert_eq!((terminals[0].opened_by_id, terminals[0].opened_by.as_str()), (7, "ada"));
        assert!(db.close_terminal(terminals[0].id, T0 + 9).await.unwrap());
        hold.changed().await;
        assert!(!db.close_terminal(terminals[0].id, T0 + 10).await.unwrap(), "twice");
        assert!(!db.close_terminal(999, T0).await.unwrap());
        let closed = db.terminal(terminals[0].id).await.unwrap().unwrap();
        assert_eq!((closed.closed_at, closed.end), (Some(T0 + 9), Some(TerminalEnd::Closed)));
        open(db, &claim, T0 + 11).await;
        for (job, attempt, now) in [(id, 2, T0), (999, 1, T0), (id, 1, T0 + 10 * MINUTE)] {
            let refused = db.open_terminal(job, attempt, &ADA, now).await.unwrap();
            assert_eq!(refused, Opened::NotHeld, "{job} {attempt} {now}");
        }
    }

    async fn both_streams_grow_at_offsets_and_repeat_without_harm(db) {
        let claim = held(db).await;
        let id = open(db, &claim, T0).await.id;
        for (stream, text) in [(Stream::Input, b"ls -la\r"), (Stream::Output, b"total 0")] {
            let mut wake = db.subscribe([Topic::Terminal(id)]);
            let append = async |offset, data| {
                db.append_terminal(id, &piece(stream, offset, data), T0 + 5).await
            };
            assert_eq!(append(0, &text[..4]).await.unwrap(), Appended::Stored(4));
            wake.changed().await;
            assert_eq!(append(0, &text[..4]).await.unwrap(), Appended::Stored(4), "twice");
            assert_eq!(append(0, &text[..2]).await.unwrap(), Appended::Stored(4), "late");
            assert_eq!(append(2, &text[2..]).await.unwrap(), Appended::Stored(7), "half new");
            assert!(matches!(append(8, b"x").await, Err(Error::Gap { stored: 7 })));
            assert!(matches!(append(u64::MAX, b"x").await, Err(Error::Gap { stored: 7 })));
            assert_eq!(append(7, b"").await.unwrap(), Appended::Stored(7));
            assert_eq!(db.read_terminal(id, stream, 3, 2).await.unwrap(), &text[3..5]);
            assert_eq!(db.read_terminal(id, stream, 7, 9).await.unwrap(), b"");
        }
        let other = piece(Stream::Input, 0, b"rm -rf");
        assert_eq!(db.append_terminal(id, &other, T0).await.unwrap(), Appended::Conflict(7));
        let missing = db.append_terminal(999, &other, T0).await;
        assert!(matches!(missing, Err(Error::NotFound { .. })));
        let terminal = db.terminal(id).await.unwrap().unwrap();
        assert_eq!((terminal.input_size, terminal.output_size), (7, 7));
    }

    async fn a_shell_ends_once_with_its_code(db) {
        let claim = held(db).await;
        let id = open(db, &claim, T0).await.id;
        let last = TerminalAppend { exit_code: Some(130), ..piece(Stream::Output, 0, b"bye") };
        assert_eq!(db.append_terminal(id, &last, T0 + 1).await.unwrap(), Appended::Stored(3));
        assert_eq!(db.append_terminal(id, &last, T0 + 2).await.unwrap(), Appended::Stored(3));
        let closed = Appended::Closed(TerminalEnd::Exited);
        let more = piece(Stream::Output, 3, b"more");
        assert_eq!(db.append_terminal(id, &more, T0 + 2).await.unwrap(), closed);
        let far = TerminalAppend { offset: u64::MAX, ..last };
        assert_eq!(db.append_terminal(id, &far, T0 + 2).await.unwrap(), closed);
        assert_eq!(db.read_terminal(id, Stream::Output, u64::MAX, 9).await.unwrap(), b"");
        let typed = piece(Stream::Input, 0, b"x");
        assert_eq!(db.append_terminal(id, &typed, T0 + 2).await.unwrap(), closed);
        assert!(!db.resize_terminal(id, 10, 10, T0 + 2).await.unwrap());
        let terminal = db.terminal(id).await.unwrap().unwrap();
        let end = (terminal.closed_at, terminal.end, terminal.exit_code);
        assert_eq!(end, (Some(T0 + 1), Some(TerminalEnd::Exited), Some(130)));
    }

    async fn a_flood_closes_the_terminal_at_its_limit(db) {
        let claim = held(db).await;
        let cases = [
            (Stream::Output, MAX_OUTPUT, TerminalEnd::OutputLimit),
            (Stream::Input, MAX_INPUT, TerminalEnd::InputLimit),
        ];
        for (stream, limit, end) in cases {
            let id = open(db, &claim, T0).await.id;
            let all = vec![b'y'; usize::try_from(limit).unwrap()];
            let full = db.append_terminal(id, &piece(stream, 0, &all), T0).await.unwrap();
            assert_eq!(full, Appended::Stored(limit), "just full");
            let over = piece(stream, limit, b"z");
            assert_eq!(db.append_terminal(id, &over, T0).await.unwrap(), Appended::Closed(end));
            assert_eq!(db.append_terminal(id, &over, T0).await.unwrap(), Appended::Closed(end));
            let terminal = db.terminal(id).await.unwrap().unwrap();
            let size = terminal.input_size + terminal.output_size;
            assert_eq!((terminal.end, size), (Some(end), limit));
            let tail = db.read_terminal(id, stream, limit - 2, 9).await.unwrap();
            assert_eq!(tail, b"yy");
        }
    }

    async fn the_recording_has_everything_in_order_with_times(db) {
        let claim = held(db).await;
        let id = open(db, &claim, T0).await.id;
        db.append_terminal(id, &piece(Stream::Output, 0, b"$ "), T0 + 1).await.unwrap();
        db.append_terminal(id, &piece(Stream::Input, 0, b"\xff"), T0 + 2).await.unwrap();
        let mut wake = db.subscribe([Topic::Terminal(id)]);
        assert!(db.resize_terminal(id, 100, 30, T0 + 3).await.unwrap());
        wake.changed().await;
        assert!(db.resize_terminal(id, 100, 30, T0 + 4).await.unwrap(), "the same again");
        db.append_terminal(id, &piece(Stream::Output, 2, b"!"), T0 + 5).await.unwrap();
        let events = db.terminal_events(id, 0, 1000).await.unwrap();
        let all: Vec<_> =
            events.iter().map(|e| (e.at - T0, e.kind.as_str(), e.data.as_slice())).collect();
        let expected: [(i64, &str, &[u8]); 5] = [
            (0, "r", b"80x24"),
            (1, "o", b"$ "),
            (2, "i", b"\xff"),
            (3, "r", b"100x30"),
            (5, "o", b"!"),
        ];
        assert_eq!(all, expected);
        let next = db.terminal_events(id, events[1].seq, 1).await.unwrap();
        assert_eq!(next, events[2..3], "from a cursor, by size");
        let terminal = db.terminal(id).await.unwrap().unwrap();
        assert_eq!((terminal.cols, terminal.rows), (100, 30));
    }

    async fn records_stay_as_long_as_their_job(db) {
        let claim = held(db).await;
        let id = open(db, &claim, T0).await.id;
        db.append_terminal(id, &piece(Stream::Output, 0, b"$ "), T0).await.unwrap();
        db.end_hold(claim.job.id, 1, HoldEnd::Expired, T0 + 1).await.unwrap();
        let keep = |before| Retention { jobs_before: before, uploads_before: T0, audit_before: T0 };
        db.retain(&keep(T0), T0 + 2).await.unwrap();
        assert!(db.terminal(id).await.unwrap().is_some());
        db.retain(&keep(T0 + 1), T0 + 2).await.unwrap();
        assert_eq!(db.terminal(id).await.unwrap(), None);
        assert_eq!(db.terminal_events(id, 0, 9).await.unwrap(), []);
        assert_eq!(db.hold_of_token(claim.token.expose()).await.unwrap(), None);
    }

    async fn another_replica_serves_the_other_side(db) {
        let claim = held(db).await;
        let id = open(db, &claim, T0).await.id;
        let replica = Store::open(&db.url).await.unwrap();
        if db.backend() == store::Backend::Postgres {
            for topic in [Topic::Terminal(id), Topic::Hold(claim.job.id)] {
                let mut other = replica.subscribe([topic]);
                db.resize_terminal(id, 81, 24, T0).await.unwrap();
                db.resize_terminal(id, 80, 24, T0).await.unwrap();
                db.release_hold(claim.job.id, 1, "ada").await.unwrap();
                let heard = tokio::time::timeout(std::time::Duration::from_secs(20), other.changed());
                heard.await.expect("a wake-up of the other replica");
            }
        }
        replica.append_terminal(id, &piece(Stream::Input, 0, b"id\r"), T0).await.unwrap();
        assert_eq!(db.read_terminal(id, Stream::Input, 0, 9).await.unwrap(), b"id\r");
        let appends = (0..8_u8).map(|n| {
            let (replica, db) = (replica.clone(), db.store.clone());
            let store = if n % 2 == 0 { replica } else { db };
            tokio::spawn(async move {
                let data = [n; 100];
                store.append_terminal(id, &piece(Stream::Output, 0, &data), T0).await.unwrap()
            })
        });
        for append in appends.collect::<Vec<_>>() {
            assert_eq!(append.await.unwrap(), Appended::Stored(100), "one of them wrote");
        }
        let printed = db.read_terminal(id, Stream::Output, 0, 999).await.unwrap();
        assert!(printed.len() == 100 && printed.iter().all(|byte| *byte == printed[0]));
        let (one, two) = tokio::join!(
            replica.end_hold(claim.job.id, 1, HoldEnd::Expired, T0 + 1),
            db.end_hold(claim.job.id, 1, HoldEnd::Released, T0 + 1),
        );
        assert!(one.unwrap() ^ two.unwrap(), "one of them ended it");
    }
}

//! Log entries, their output, and the feed that pages follow.

use protocol::{FailureReason, Phase};
use store::{
    Append, Claim, Error, FeedChange, FeedItem, JobState, LogEntry, NewLogEntry, Outcome, Store,
};

use crate::contract;
use crate::db::{T0, finish, lease};

fn entry(key: &str) -> NewLogEntry<'_> {
    NewLogEntry { key, start_time: "2026-01-02T03:04:05.678Z", ..NewLogEntry::default() }
}

fn at(entry_id: i64, offset: u64, data: &[u8]) -> Append<'_> {
    Append { entry_id, offset, data, ..Append::default() }
}

async fn output(db: &Store, claim: &Claim, entry_id: i64) -> Vec<u8> {
    let job = &claim.job;
    db.read_log(job.id, job.attempt, entry_id, 0, usize::MAX).await.unwrap()
}

/// What a follower knows who reads `step` items at a time from the start.
async fn follow(db: &Store, job_id: i64, step: i64) -> Vec<FeedItem> {
    let (mut all, mut cursor) = (Vec::new(), 0);
    loop {
        let items = db.feed(job_id, cursor, step, 1).await.unwrap();
        let Some(last) = items.last() else { return all };
        assert!(last.seq > cursor);
        cursor = last.seq;
        all.extend(items);
    }
}

/// Output as a follower has put it together.
fn assembled(items: &[FeedItem], entry: i64) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        match &item.change {
            FeedChange::Output { entry_id, offset, data } if *entry_id == entry => {
                assert_eq!(*offset, out.len() as u64);
                out.extend_from_slice(data);
            }
            FeedChange::Rewound { entry_id } if *entry_id == entry => out.clear(),
            _ => {}
        }
    }
    out
}

contract! {
    async fn entries_are_counted_from_one_and_keep_what_was_sent(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        let command = ["git".to_owned(), "init".to_owned()];
        let git = NewLogEntry { command: Some(&command), ..entry("setup.git.init") };
        assert_eq!(db.add_log_entry(&lease, &git, None, T0 + 1).await.unwrap(), 1);
        assert_eq!(db.add_log_entry(&lease, &entry("step.0"), None, T0 + 2).await.unwrap(), 2);
        let entries = db.log_entries(claim.job.id, 1).await.unwrap();
        let first = LogEntry {
            attempt: 1,
            entry_id: 1,
            key: "setup.git.init".into(),
            command: Some(command.to_vec()),
            start_time: "2026-01-02T03:04:05.678Z".into(),
            exit_code: None,
            duration_ms: None,
            stored: 0,
            created_at: T0 + 1,
        };
        assert_eq!(entries[0], first);
        assert_eq!((entries[1].entry_id, entries[1].command.clone()), (2, None));
    }

    async fn an_expected_id_makes_adding_idempotent(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        assert_eq!(db.add_log_entry(&lease, &entry("a"), Some(1), T0).await.unwrap(), 1);
        assert_eq!(db.add_log_entry(&lease, &entry("a"), Some(1), T0).await.unwrap(), 1);
        assert_eq!(db.add_log_entry(&lease, &entry("b"), Some(2), T0).await.unwrap(), 2);
        assert_eq!(db.add_log_entry(&lease, &entry("a"), Some(1), T0).await.unwrap(), 1);
        let other = db.add_log_entry(&lease, &entry("x"), Some(1), T0).await;
        assert!(matches!(other, Err(Error::EntryOrder { expected: 1, stored: 2 })));
        let gap = db.add_log_entry(&lease, &entry("d"), Some(4), T0).await;
        assert!(matches!(gap, Err(Error::EntryOrder { expected: 4, stored: 2 })));
        assert_eq!(db.log_entries(claim.job.id, 1).await.unwrap().len(), 2);
    }

    async fn appends_skip_what_is_stored_and_refuse_gaps(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        db.add_log_entry(&lease, &entry("a"), Some(1), T0).await.unwrap();
        assert_eq!(db.append_log(&lease, &at(1, 0, b"hello "), T0).await.unwrap(), 6);
        assert_eq!(db.append_log(&lease, &at(1, 0, b"hello "), T0).await.unwrap(), 6);
        assert_eq!(db.append_log(&lease, &at(1, 3, b"lo world"), T0).await.unwrap(), 11);
        assert_eq!(db.append_log(&lease, &at(1, 2, b"x"), T0).await.unwrap(), 11);
        let gap = db.append_log(&lease, &at(1, 12, b"!"), T0).await;
        assert!(matches!(gap, Err(Error::Gap { stored: 11 })));
        assert!(matches!(
            db.append_log(&lease, &at(2, 0, b"x"), T0).await,
            Err(Error::NotFound { .. })
        ));
        assert_eq!(output(db, &claim, 1).await, b"hello world");
        let last = Append { exit_code: Some(3), duration_ms: Some(120), ..at(1, 11, b"") };
        assert_eq!(db.append_log(&lease, &last, T0).await.unwrap(), 11);
        let entry = &db.log_entries(claim.job.id, 1).await.unwrap()[0];
        assert_eq!((entry.exit_code, entry.duration_ms, entry.stored), (Some(3), Some(120), 11));
    }

    async fn any_bytes_of_any_length_come_back_by_range(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        db.add_log_entry(&lease, &entry("a"), Some(1), T0).await.unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n * 7 % 256) as u8).collect();
        db.append_log(&lease, &at(1, 0, &bytes[..200_000]), T0).await.unwrap();
        db.append_log(&lease, &at(1, 200_000, &bytes[200_000..]), T0).await.unwrap();
        assert_eq!(output(db, &claim, 1).await, bytes);
        for (from, max) in [(0, 10), (65_535, 2), (65_536, 1), (199_990, 20), (299_999, 9), (300_000, 9)] {
            let read = db.read_log(claim.job.id, 1, 1, from as u64, max).await.unwrap();
            assert_eq!(read, bytes[from..(from + max).min(bytes.len())], "{from} {max}");
        }
        assert!(db.read_log(claim.job.id, 1, 2, 0, 9).await.unwrap().is_empty());
        assert_eq!(assembled(&follow(db, claim.job.id, 100).await, 1), bytes);
    }

    async fn a_replace_that_continues_is_an_append(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        let id = db.add_log_entry(&lease, &entry("a"), None, T0).await.unwrap();
        let mut whole = Vec::new();
        for piece in [b"stdout: one\n".as_slice(), b"", b"stdout: two\n"] {
            whole.extend_from_slice(piece);
            let update = NewLogEntry { out: &whole, ..entry("a") };
            db.replace_log_entry(&lease, id, &update, T0).await.unwrap();
        }
        let end = NewLogEntry { out: &whole, exit_code: Some(0), duration_ms: Some(5), ..entry("a") };
        db.replace_log_entry(&lease, id, &end, T0).await.unwrap();
        assert_eq!(output(db, &claim, id).await, whole);
        let items = follow(db, claim.job.id, 100).await;
        assert_eq!(assembled(&items, id), whole);
        assert!(!items.iter().any(|i| matches!(i.change, FeedChange::Rewound { .. })));
        let entry = &db.log_entries(claim.job.id, 1).await.unwrap()[0];
        assert_eq!((entry.exit_code, entry.duration_ms, entry.stored), (Some(0), Some(5), 24));
    }

    async fn a_replace_that_differs_starts_anew(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        let first = NewLogEntry { out: b"one two", ..entry("a") };
        let id = db.add_log_entry(&lease, &first, None, T0).await.unwrap();
        for other in [b"one 2".as_slice(), b"one 2 three", b"one"] {
            let update = NewLogEntry { out: other, ..entry("a") };
            db.replace_log_entry(&lease, id, &update, T0).await.unwrap();
            assert_eq!(output(db, &claim, id).await, other);
        }
        let items = follow(db, claim.job.id, 1).await;
        assert_eq!(assembled(&items, id), b"one");
        let missing = db.replace_log_entry(&lease, 2, &entry("a"), T0).await;
        assert!(matches!(missing, Err(Error::NotFound { .. })));
    }

    async fn nobody_writes_to_a_job_that_is_not_theirs(db) {
        let claim = db.running(T0).await;
        let mine = lease(&claim);
        db.add_log_entry(&mine, &entry("a"), None, T0).await.unwrap();
        let other = store::Lease { executor: "exec-2", ..mine };
        let old = store::Lease { attempt: Some(2), ..mine };
        let elsewhere = store::Lease { queue: "batches", ..mine };
        for lease in [other, old, elsewhere] {
            let add = db.add_log_entry(&lease, &entry("b"), None, T0).await;
            assert!(matches!(add, Err(Error::UnknownJob)));
            let append = db.append_log(&lease, &at(1, 0, b"x"), T0).await;
            assert!(matches!(append, Err(Error::UnknownJob)));
            let replace = db.replace_log_entry(&lease, 1, &entry("a"), T0).await;
            assert!(matches!(replace, Err(Error::UnknownJob)));
            let value = serde_json::json!(1);
            let result = db.put_result(&lease, "k", "n", &value, T0).await;
            assert!(matches!(result, Err(Error::UnknownJob)));
        }
        db.finish(&finish(&claim, Outcome::Complete), T0).await.unwrap().unwrap();
        let late = db.append_log(&mine, &at(1, 0, b"x"), T0).await;
        assert!(matches!(late, Err(Error::UnknownJob)));
    }

    async fn earlier_attempts_keep_their_logs(db) {
        let first = db.running(T0).await;
        let out = NewLogEntry { out: b"first", ..entry("a") };
        db.add_log_entry(&lease(&first), &out, None, T0).await.unwrap();
        db.reset_stalled(T0 + 30_000).await.unwrap();
        let second = db.claim_one("jobs", "exec-2", T0 + 30_000).await.unwrap();
        let out = NewLogEntry { out: b"second", ..entry("a") };
        let id = db.add_log_entry(&lease(&second), &out, Some(1), T0 + 30_000).await.unwrap();
        assert_eq!(id, 1);
        assert_eq!(output(db, &first, 1).await, b"first");
        assert_eq!(output(db, &second, 1).await, b"second");
        assert_eq!(db.log_entries(first.job.id, 1).await.unwrap().len(), 1);
        assert_eq!(db.log_entries(first.job.id, 2).await.unwrap().len(), 1);
    }

    async fn the_feed_tells_everything_in_order_from_any_cursor(db) {
        let claim = db.running(T0).await;
        let (id, lease) = (claim.job.id, lease(&claim));
        db.begin_phase(&lease, Phase::Preparing, 0, T0).await.unwrap();
        db.add_log_entry(&lease, &entry("a"), Some(1), T0 + 1).await.unwrap();
        db.append_log(&lease, &at(1, 0, b"out"), T0 + 2).await.unwrap();
        db.put_result(&lease, "diff", "app", &serde_json::json!({"a": 1}), T0 + 3).await.unwrap();
        let artifact = store::Artifact {
            path: "out/a".into(),
            size: 1,
            sha256: String::new(),
            blob_key: "b".into(),
            at: T0,
        };
        db.put_artifact(&lease, &artifact, T0 + 4).await.unwrap();
        let mut end = finish(&claim, Outcome::Failed);
        end.reason = Some(FailureReason::StepFailed);
        end.message = "exit 3".into();
        db.finish(&end, T0 + 5).await.unwrap().unwrap();

        let items = follow(db, id, 1).await;
        assert_eq!(items, follow(db, id, 100).await);
        let changes: Vec<&FeedChange> = items.iter().map(|item| &item.change).collect();
        let state = |state, reason, message: &str| {
            FeedChange::State { state, reason, message: message.into() }
        };
        assert_eq!(*changes[0], state(JobState::Processing, None, ""));
        assert_eq!(*changes[1], FeedChange::Phase(Phase::Preparing));
        assert!(matches!(changes[2], FeedChange::Entry(entry) if entry.key == "a"));
        let out = FeedChange::Output { entry_id: 1, offset: 0, data: b"out".to_vec() };
        assert_eq!(*changes[3], out);
        assert_eq!(*changes[4], FeedChange::Result { kind: "diff".into(), name: "app".into() });
        let failed = state(JobState::Failed, Some(FailureReason::StepFailed), "exit 3");
        assert_eq!(*changes[5], FeedChange::Artifact { path: "out/a".into() });
        assert_eq!(*changes[6], failed);
        assert_eq!(changes.len(), 7);
        assert_eq!(items.iter().map(|i| i.at - T0).collect::<Vec<_>>(), [0, 0, 1, 2, 3, 4, 5]);
        let tail = db.feed(id, items[2].seq, 100, usize::MAX).await.unwrap();
        assert_eq!(tail, items[3..]);
    }

    async fn a_batch_of_the_feed_is_bounded_by_bytes(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        db.add_log_entry(&lease, &entry("a"), Some(1), T0).await.unwrap();
        for n in 0..8 {
            db.append_log(&lease, &at(1, n * 60_000, &[b'x'; 60_000]), T0).await.unwrap();
        }
        let items = db.feed(claim.job.id, 0, 1000, 100_000).await.unwrap();
        assert_eq!(assembled(&items, 1).len(), 120_000);
    }

    async fn phases_begin_once_and_not_outside_the_attempt(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        db.begin_phase(&lease, Phase::Preparing, 10, T0 + 50).await.unwrap();
        db.begin_phase(&lease, Phase::Preparing, 40, T0 + 60).await.unwrap();
        db.begin_phase(&lease, Phase::Booting, 99_999, T0 + 70).await.unwrap();
        db.begin_phase(&lease, Phase::Running, -5, T0 + 80).await.unwrap();
        let phases = db.phases(claim.job.id, 1).await.unwrap();
        let began: Vec<_> = phases.iter().map(|p| (p.phase, p.began_at - T0)).collect();
        assert_eq!(began, [(Phase::Running, 0), (Phase::Preparing, 10), (Phase::Booting, 70)]);
    }

    async fn text_of_a_hostile_program_is_stored_as_well_as_it_can_be(db) {
        let claim = db.running(T0).await;
        let lease = lease(&claim);
        let command = ["a\0b".to_owned()];
        let odd = NewLogEntry {
            command: Some(&command), start_time: "\0", out: b"\0\xff\x1b[2J", ..entry("k\0\u{202e}")
        };
        assert_eq!(db.add_log_entry(&lease, &odd, Some(1), T0).await.unwrap(), 1);
        assert_eq!(db.add_log_entry(&lease, &odd, Some(1), T0).await.unwrap(), 1);
        db.replace_log_entry(&lease, 1, &odd, T0).await.unwrap();
        let stored = &db.log_entries(claim.job.id, 1).await.unwrap()[0];
        assert_eq!((stored.key.as_str(), stored.command.as_deref()), ("k\u{fffd}\u{202e}", Some(&command[..])));
        assert_eq!(output(db, &claim, 1).await, b"\0\xff\x1b[2J");
        let value = serde_json::json!("a\0b");
        db.put_result(&lease, "k", "n", &value, T0).await.unwrap();
        let results = db.results(claim.job.id, 1).await.unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&results[0].value).unwrap(), value);
        let mut end = finish(&claim, Outcome::Failed);
        end.message = "boom\0".into();
        db.finish(&end, T0).await.unwrap().unwrap();
        assert_eq!(db.job(claim.job.id).await.unwrap().unwrap().message, "boom\u{fffd}");
    }
}

//! Log entries as the job page shows them: the end of the output first, earlier parts on request.

use store::{LogEntry, Store};

use super::{Earlier, EntrySummary, EntryView, LogGroup};
use crate::ui::ansi::{Line, Renderer};
use crate::ui::format::{self, Html};

/// Bytes of output that a page starts with, for each entry…
const TAIL: u64 = 32 * 1024;
/// … and for all of them, when there are many.
const ALL_TAILS: u64 = 1024 * 1024;
/// Bytes that each "load earlier" brings.
const EARLIER: u64 = 128 * 1024;
/// Steps are unfolded when there are no more than so many.
const FEW_STEPS: usize = 3;

/// Groups of entries, in the order of a job's life.
pub(super) const GROUPS: [(&str, &str); 3] =
    [("setup", "Set-up"), ("steps", "Steps"), ("teardown", "Tear-down")];

/// The group that a log key belongs to.
pub(super) fn group(key: &str) -> &'static str {
    match key.split('.').next() {
        Some("setup") => "setup",
        Some("teardown") => "teardown",
        _ => "steps",
    }
}

/// `step.docker.count` is `count` to people.
pub(super) fn name(key: &str) -> String {
    let name = ["step.docker.", "step.src.", "step.", "setup.", "teardown."]
        .iter()
        .find_map(|prefix| key.strip_prefix(prefix))
        .unwrap_or(key);
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// All entries of an attempt, sorted into groups; `with_output`: the reader may see it.
pub(super) async fn groups(
    store: &Store,
    job_id: i64,
    entries: &[LogEntry],
    live: bool,
    now: i64,
) -> store::Result<Vec<LogGroup>> {
    let tail = TAIL.min(ALL_TAILS / entries.len().max(1) as u64);
    let steps = entries.iter().filter(|entry| group(&entry.key) == "steps").count();
    let mut groups = Vec::new();
    for (key, title) in GROUPS {
        let mut views = Vec::new();
        for entry in entries.iter().filter(|entry| group(&entry.key) == key) {
            let open = is_open(entry, steps, live);
            views.push(with_tail(store, job_id, entry, tail, open, live, now).await?);
        }
        groups.push(LogGroup { key, title, entries: views });
    }
    Ok(groups)
}

fn is_open(entry: &LogEntry, steps: usize, live: bool) -> bool {
    match entry.exit_code {
        None => live,
        Some(0) => group(&entry.key) == "steps" && steps <= FEW_STEPS,
        Some(_) => true,
    }
}

/// An entry of a running job, unfolded, with the end of its output.
pub(super) async fn view(
    store: &Store,
    job_id: i64,
    entry: &LogEntry,
    now: i64,
) -> store::Result<EntryView> {
    with_tail(store, job_id, entry, TAIL, true, true, now).await
}

async fn with_tail(
    store: &Store,
    job_id: i64,
    entry: &LogEntry,
    tail: u64,
    open: bool,
    live: bool,
    now: i64,
) -> store::Result<EntryView> {
    let from = entry.stored.saturating_sub(tail);
    let piece = piece(store, job_id, entry, from, entry.stored).await?;
    Ok(EntryView {
        id: entry.entry_id,
        key: entry.key.clone(),
        name: name(&entry.key),
        open,
        summary: summary(entry, live, now, false),
        earlier: earlier(job_id, entry, piece.start, false),
        end: piece.end,
        lines: piece.lines.iter().map(Line::html).collect(),
    })
}

/// The entry's line.
pub(super) fn summary(entry: &LogEntry, live: bool, now: i64, oob: bool) -> EntrySummary {
    let running = entry.exit_code.is_none() && live;
    let (color, status) = match entry.exit_code {
        None if running => ("blue", "running".to_owned()),
        None => ("amber", "unfinished".to_owned()),
        Some(0) => ("green", "ok".to_owned()),
        Some(-1) => ("red", "killed".to_owned()),
        Some(code) => ("red", format!("exit {code}")),
    };
    let took = match entry.duration_ms {
        Some(ms) => Html::text(&format::duration(ms)),
        None if running => format::running_since(entry.created_at, now),
        None => Html::default(),
    };
    let command = entry.command.as_deref().unwrap_or_default().join(" ");
    let command = command.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
    EntrySummary {
        id: entry.entry_id,
        oob,
        color,
        running,
        status,
        name: name(&entry.key),
        command,
        took,
    }
}

/// A rendered part of an entry's output, cut at line starts.
pub(super) struct Piece {
    /// First byte shown.
    pub start: u64,
    /// Up to where it is shown.
    pub end: u64,
    /// The lines.
    pub lines: Vec<Line>,
}

/// Renders bytes `from..to`, from the first line that starts there.
async fn piece(
    store: &Store,
    job_id: i64,
    entry: &LogEntry,
    from: u64,
    to: u64,
) -> store::Result<Piece> {
    let max = usize::try_from(to - from).unwrap_or(usize::MAX);
    let bytes = store.read_log(job_id, entry.attempt, entry.entry_id, from, max).await?;
    let skip = match from {
        0 => 0,
        // A single line longer than the piece is shown from the middle.
        _ => bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1),
    };
    let start = from + skip as u64;
    let mut renderer = Renderer::new(start, false);
    let lines = renderer.feed(&bytes[skip..]);
    Ok(Piece { start, end: renderer.end(), lines })
}

/// The part before byte `before`, which is the start of a line on the page.
pub(super) async fn before(
    store: &Store,
    job_id: i64,
    entry: &LogEntry,
    before: u64,
) -> store::Result<Piece> {
    let to = before.min(entry.stored);
    piece(store, job_id, entry, to.saturating_sub(EARLIER), to).await
}

/// The way to what is before `start`.
pub(super) fn earlier(job_id: i64, entry: &LogEntry, start: u64, oob: bool) -> Earlier {
    Earlier {
        entry: entry.entry_id,
        action: format!("/jobs/{job_id}/log/{}/{}", entry.attempt, entry.entry_id),
        oob,
        before: start,
        hidden_text: format!("{} before this", format::bytes(start)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_groups_and_names() {
        let cases = [
            ("setup.git.fetch", "setup", "git.fetch"),
            ("step.docker.count", "steps", "count"),
            ("step.src.0", "steps", "0"),
            ("teardown.vm", "teardown", "vm"),
            ("odd\nkey", "steps", "odd key"),
        ];
        for (key, expected, short) in cases {
            assert_eq!((group(key), name(key).as_str()), (expected, short));
        }
    }
}

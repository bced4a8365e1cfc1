//! The phase bar: each phase's share of the time once the job has ended, even parts while it runs (a bar
//! that rescales all the time is hard to read).

use protocol::Phase;
use store::PhaseStart;

use super::{PhaseBar, PhaseView, Segment};
use crate::ui::format::{self, Html};

const WIDTH: i64 = 1000;
/// No phase is thinner than this, or it could not be seen.
const MIN: i64 = 8;

/// The bar of an attempt; `ended` is when its last phase ended, `None` while it runs. `None` when the
/// executor reported no phases.
pub(super) fn bar(starts: &[PhaseStart], ended: Option<i64>, now: i64) -> Option<PhaseBar> {
    if starts.is_empty() {
        return None;
    }
    let mut spans = Vec::new();
    for (place, start) in starts.iter().enumerate() {
        let next = starts.get(place + 1).map(|next| next.began_at).or(ended);
        spans.push((start.phase, start.began_at, next));
    }
    let phases = Phase::ALL.into_iter().enumerate().map(|(index, phase)| {
        let span = spans.iter().find(|(known, ..)| *known == phase);
        let (class, time) = match span {
            None if ended.is_some() => ("skipped", Html::text("–")),
            None => ("later", Html::default()),
            Some((_, begin, None)) => ("now", format::running_since(*begin, now)),
            Some((_, begin, Some(end))) => ("done", Html::text(&format::duration(end - begin))),
        };
        PhaseView { index, name: name(phase), class, time }
    });
    Some(PhaseBar { phases: phases.collect(), segments: segments(&spans, ended.is_some()) })
}

fn segments(spans: &[(Phase, i64, Option<i64>)], ended: bool) -> Vec<Segment> {
    let index = |phase: Phase| Phase::ALL.iter().position(|p| *p == phase).unwrap_or(0);
    if !ended {
        let part = WIDTH / Phase::ALL.len() as i64;
        let even = |(phase, _, end): &(Phase, i64, Option<i64>)| {
            let index = index(*phase);
            Segment { index, x: index as i64 * part, width: part, live: end.is_none() }
        };
        return spans.iter().map(even).collect();
    }
    let lengths: Vec<i64> =
        spans.iter().map(|(_, begin, end)| (end.unwrap_or(*begin) - begin).max(0)).collect();
    let total = lengths.iter().sum::<i64>().max(1);
    let free = WIDTH - MIN * spans.len() as i64;
    let mut x = 0;
    let mut segments = Vec::new();
    for ((phase, ..), length) in spans.iter().zip(lengths) {
        let width = MIN + (i128::from(free) * i128::from(length) / i128::from(total)) as i64;
        segments.push(Segment { index: index(*phase), x, width, live: false });
        x += width;
    }
    segments
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "Preparing",
        Phase::Booting => "Booting",
        Phase::Running => "Running",
        Phase::Collecting => "Collecting",
        Phase::Reporting => "Reporting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(list: &[(Phase, i64)]) -> Vec<PhaseStart> {
        list.iter().map(|&(phase, began_at)| PhaseStart { phase, began_at }).collect()
    }

    #[test]
    fn a_running_job_has_even_parts_and_one_that_lives() {
        let starts = starts(&[(Phase::Preparing, 0), (Phase::Booting, 900)]);
        let bar = bar(&starts, None, 1000).unwrap();
        let drawn: Vec<_> = bar.segments.iter().map(|s| (s.x, s.width, s.live)).collect();
        assert_eq!(drawn, [(0, 200, false), (200, 200, true)]);
        let classes: Vec<_> = bar.phases.iter().map(|p| p.class).collect();
        assert_eq!(classes, ["done", "now", "later", "later", "later"]);
    }

    #[test]
    fn an_ended_job_shows_shares_that_fill_the_bar() {
        let starts = starts(&[(Phase::Preparing, 0), (Phase::Booting, 0), (Phase::Running, 100)]);
        let bar = bar(&starts, Some(1000), 5000).unwrap();
        let last = bar.segments.last().unwrap();
        assert!((990..=1000).contains(&(last.x + last.width)), "{last:?}");
        assert!(bar.segments.iter().all(|s| s.width >= MIN && !s.live));
        assert_eq!(bar.phases[2].time, Html::text("900 ms"));
        assert_eq!(bar.phases[4].class, "skipped");
        assert_eq!(super::bar(&[], None, 0), None);
    }
}

//! Why a job still waits, in a sentence.

use store::WhyQueued;

/// The most telling reason first, with what a person could do about it.
pub fn explain(facts: &WhyQueued, now: i64) -> String {
    if let Some(after) = facts.process_after.filter(|after| *after > now) {
        return format!("it is to start in {} s", (after - now + 999) / 1000);
    }
    let free = facts.executors - facts.draining;
    if facts.executors == 0 {
        return match facts.last_executor_seen_at {
            Some(at) => format!(
                "no executor for this queue is connected; the last one was seen {} ago",
                ago(now - at)
            ),
            None => "no executor has ever connected for this queue".to_owned(),
        };
    }
    if free <= 0 {
        return format!("{} drain and take no more jobs", executors(facts.executors));
    }
    let ahead = match facts.ahead {
        0 => "it is next".to_owned(),
        n => {
            let mut parts = Vec::new();
            if facts.ahead_by_priority > 0 {
                parts.push(format!("{} of higher priority", facts.ahead_by_priority));
            }
            if facts.ahead_by_same_user > 0 {
                parts.push(format!("{} of the same user", facts.ahead_by_same_user));
            }
            let detail =
                if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
            format!("{} before it{detail}", jobs(n))
        }
    };
    let busy = facts.slots_in_use >= facts.slots && facts.executors_of_unknown_capacity == 0;
    if busy && facts.slots > 0 {
        return format!("all {} slots of {} are in use; {ahead}", facts.slots, executors(free));
    }
    format!("{ahead}, {} can take it", executors(free))
}

fn executors(n: i64) -> String {
    if n == 1 { "1 executor".to_owned() } else { format!("{n} executors") }
}

fn jobs(n: i64) -> String {
    if n == 1 { "1 job is".to_owned() } else { format!("{n} jobs are") }
}

fn ago(ms: i64) -> String {
    match ms / 1000 {
        s @ ..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> WhyQueued {
        WhyQueued {
            process_after: None,
            ahead: 0,
            ahead_by_priority: 0,
            ahead_by_same_user: 0,
            executors: 2,
            draining: 0,
            slots: 4,
            slots_in_use: 4,
            executors_of_unknown_capacity: 0,
            last_executor_seen_at: Some(0),
            num_resets: 0,
        }
    }

    #[test]
    fn reasons() {
        let says = |facts: WhyQueued, text: &str| assert_eq!(explain(&facts, 90_000), text);
        says(facts(), "all 4 slots of 2 executors are in use; it is next");
        says(
            WhyQueued { ahead: 3, ahead_by_priority: 2, ahead_by_same_user: 1, ..facts() },
            "all 4 slots of 2 executors are in use; 3 jobs are before it (2 of higher priority, 1 of the same user)",
        );
        says(WhyQueued { slots_in_use: 1, ..facts() }, "it is next, 2 executors can take it");
        says(WhyQueued { draining: 2, ..facts() }, "2 executors drain and take no more jobs");
        says(
            WhyQueued { executors: 0, ..facts() },
            "no executor for this queue is connected; the last one was seen 1 min ago",
        );
        says(
            WhyQueued { executors: 0, last_executor_seen_at: None, ..facts() },
            "no executor has ever connected for this queue",
        );
        says(WhyQueued { process_after: Some(95_500), ..facts() }, "it is to start in 6 s");
    }
}

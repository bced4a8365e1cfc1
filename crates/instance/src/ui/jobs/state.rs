//! Job states as people see them.

use store::JobState;

use super::StateView;

/// Name, text and colour of a state.
pub(super) fn view(state: JobState, cancel_requested: bool) -> StateView {
    let (label, color, live) = match state {
        JobState::Processing if cancel_requested => ("Canceling", "amber", true),
        JobState::Queued => ("Queued", "grey", false),
        JobState::Processing => ("Processing", "blue", true),
        JobState::Completed => ("Completed", "green", false),
        JobState::Errored => ("Errored", "amber", false),
        JobState::Failed => ("Failed", "red", false),
        JobState::Canceled => ("Canceled", "grey", false),
    };
    StateView { name: state.as_str(), label, color, live }
}

/// Text and colour of an attempt's outcome.
pub(super) fn outcome(outcome: &str) -> (String, &'static str) {
    match (outcome, JobState::parse(outcome)) {
        (_, Some(state)) => {
            let view = view(state, false);
            (view.label.to_owned(), view.color)
        }
        ("lost", None) => ("Lost".to_owned(), "amber"),
        ("requeued", None) => ("Requeued".to_owned(), "grey"),
        (other, None) => (other.to_owned(), "grey"),
    }
}

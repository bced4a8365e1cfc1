//! Skipping steps: after a step whose key ends in `.pre`, the workspace may hold `skip.json`, which
//! names the step to go on with. Batch changes use it to reuse cached results.

use microvm::{GuestClient, GuestError};
use serde::Deserialize;

use super::plan::Step;

const FILE: &str = "skip.json";
/// The file is a few bytes; more is not ours.
const LIMIT: u64 = 64 << 10;

#[derive(Deserialize)]
struct Skip {
    #[serde(rename = "nextStep", default)]
    next_step: String,
}

/// Where to go on after step `index`, and the file is removed; the next one if nothing is to be skipped.
pub(super) async fn next_step(
    guest: &GuestClient,
    steps: &[Step],
    index: usize,
) -> Result<usize, GuestError> {
    if !steps[index].log_key.ends_with(".pre") {
        return Ok(index + 1);
    }
    let Some(content) = guest.read_file(FILE, LIMIT).await? else { return Ok(index + 1) };
    guest.remove_file(FILE).await?;
    Ok(target(&content, steps, index))
}

/// An unreadable file, or one that names no later step, skips nothing: running a step again is safe,
/// leaving one out is not.
fn target(content: &[u8], steps: &[Step], index: usize) -> usize {
    let Ok(skip) = serde_json::from_slice::<Skip>(content) else { return index + 1 };
    let key = format!("step.docker.{}", skip.next_step);
    let later = steps.iter().enumerate().skip(index + 1);
    later.into_iter().find(|(_, step)| step.log_key == key).map_or(index + 1, |(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(keys: &[&str]) -> Vec<Step> {
        keys.iter()
            .map(|key| Step {
                log_key: format!("step.docker.{key}"),
                image: 0,
                argv: Vec::new(),
                env: Vec::new(),
                cwd: String::new(),
                script: None,
            })
            .collect()
    }

    #[test]
    fn steps_up_to_the_named_one_are_skipped() {
        let steps = steps(&["step.0.pre", "step.0.run", "step.0.post", "step.1.pre"]);
        assert_eq!(target(br#"{"nextStep":"step.1.pre"}"#, &steps, 0), 3);
    }

    #[test]
    fn what_cannot_be_understood_skips_nothing() {
        let steps = steps(&["step.0.pre", "step.0.run"]);
        for content in [r#"{"nextStep":"step.9.pre"}"#, r#"{"nextStep":"step.0.pre"}"#, "{", "{}"] {
            assert_eq!(target(content.as_bytes(), &steps, 0), 1, "{content}");
        }
    }
}

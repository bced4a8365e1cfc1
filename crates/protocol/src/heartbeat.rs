//! Heartbeat: the executor says which jobs it runs, the instance says which of them to drop.

use serde::{Deserialize, Deserializer, Serialize};

use crate::hold::HoldWish;
use crate::nullable::or_default;

/// A job id as it appears in heartbeats: peers send integers, floats or strings, mixed.
/// Multi-queue answers carry `"<id>-<queue>"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WireId {
    /// A bare integer, as single-queue executors send.
    Number(i64),
    /// A string, as everyone answers.
    Text(String),
}

impl WireId {
    /// The id without its queue suffix, and the queue if there is one.
    /// `None` when no integer can be read: the caller must then leave its jobs alone.
    pub fn split(&self) -> Option<(i64, Option<&str>)> {
        match self {
            Self::Number(id) => Some((*id, None)),
            Self::Text(text) => match text.split_once('-') {
                Some((id, queue)) => Some((id.parse().ok()?, Some(queue))),
                None => Some((text.parse().ok()?, None)),
            },
        }
    }
}

impl Serialize for WireId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(id) => serializer.serialize_i64(*id),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for WireId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = WireId;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a job id: an integer or a string")
            }
            fn visit_i64<E>(self, id: i64) -> Result<WireId, E> {
                Ok(WireId::Number(id))
            }
            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<WireId, E> {
                i64::try_from(id).map(WireId::Number).map_err(E::custom)
            }
            fn visit_f64<E: serde::de::Error>(self, id: f64) -> Result<WireId, E> {
                if id.fract() == 0.0 && id.abs() < 9e15 {
                    Ok(WireId::Number(id as i64))
                } else {
                    Err(E::custom("a job id must be a whole number"))
                }
            }
            fn visit_str<E>(self, id: &str) -> Result<WireId, E> {
                Ok(WireId::Text(id.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Body of `POST …/heartbeat`; union of the single-queue and the multi-queue form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatRequest {
    /// `"V2"` on the single-queue route, empty on the multi-queue route.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
    /// The executor's unique name. Required.
    #[serde(deserialize_with = "or_default")]
    pub executor_name: String,
    /// Single queue: running jobs. Outer `None` = absent (multi), inner `None` = `null` (idle).
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub job_ids: Option<Option<Vec<WireId>>>,
    /// Multi queue: running jobs per queue, sorted by queue name; absent when idle.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub job_ids_by_queue: Vec<JobIdsByQueue>,
    /// Multi queue: the queues this executor serves. Required there.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub queue_names: Vec<String>,
    /// Operating system in Go naming (`linux`).
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    /// Architecture in Go naming (`amd64`).
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    /// Version of the container engine, empty if unknown.
    #[serde(deserialize_with = "or_default")]
    pub docker_version: String,
    /// Version of the executor.
    #[serde(deserialize_with = "or_default")]
    pub executor_version: String,
    /// Version of git.
    #[serde(deserialize_with = "or_default")]
    pub git_version: String,
    /// Version of the VMM wrapper of stock executors; ours leave it empty.
    #[serde(deserialize_with = "or_default")]
    pub ignite_version: String,
    /// Version of `src`.
    #[serde(deserialize_with = "or_default")]
    pub src_cli_version: String,
    /// Prometheus text exposition of the executor's own metrics, or empty.
    #[serde(deserialize_with = "or_default")]
    pub prometheus_metrics: String,
    /// Ours: capacity, runtime, drain state, last error. Absent from stock executors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<crate::ext::AgentStatus>,
}

fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<Vec<WireId>>>, D::Error> {
    Option::<Vec<WireId>>::deserialize(d).map(Some)
}

/// Running jobs of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobIdsByQueue {
    /// Queue.
    #[serde(deserialize_with = "or_default")]
    pub queue_name: String,
    /// Ids, as strings.
    #[serde(deserialize_with = "or_default")]
    pub job_ids: Vec<WireId>,
}

/// Answer to a heartbeat. Stock instances answer `null` for "none", and some `knownIDs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// Ids that are still this executor's; a running id that is missing must be dropped.
    #[serde(rename = "knownIds", alias = "knownIDs", alias = "knownids", default)]
    pub known_ids: Option<Vec<WireId>>,
    /// Ids whose cancellation was requested.
    #[serde(rename = "cancelIds", alias = "cancelIDs", alias = "cancelids", default)]
    pub cancel_ids: Option<Vec<WireId>>,
    /// Ours: the site admin asks this executor to drain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    /// Ours: running jobs for which a site admin said whether their machine is kept if they fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub holds: Vec<HoldWish>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_form_are_read() {
        let ids: Vec<WireId> = serde_json::from_str(r#"["31", 99, 7.0, "8-codeintel"]"#).unwrap();
        let split: Vec<_> = ids.iter().map(WireId::split).collect();
        let expected =
            [Some((31, None)), Some((99, None)), Some((7, None)), Some((8, Some("codeintel")))];
        assert_eq!(split, expected);
        assert_eq!(WireId::Text("7+x".into()).split(), None);
        assert_eq!(WireId::Text("3baz".into()).split(), None);
        assert!(serde_json::from_str::<WireId>("true").is_err());
    }

    #[test]
    fn idle_single_queue_beat_sends_null_and_multi_omits() {
        let idle = HeartbeatRequest { job_ids: Some(None), ..Default::default() };
        assert!(serde_json::to_string(&idle).unwrap().contains(r#""jobIds":null"#));
        let multi = HeartbeatRequest::default();
        assert!(!serde_json::to_string(&multi).unwrap().contains("jobIds"));
    }

    #[test]
    fn both_casings_of_the_answer_are_read() {
        let a: HeartbeatResponse =
            serde_json::from_str(r#"{"knownIDs":[1],"cancelIds":null}"#).unwrap();
        assert_eq!(a.known_ids, Some(vec![WireId::Number(1)]));
        assert_eq!(a.cancel_ids, None);
    }
}

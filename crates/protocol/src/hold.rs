//! Extension `hold`: the machine of a failed job is kept for a while, and a site admin looks into it.
//!
//! The executor only dials out: it asks for the hold's state, for what was typed, and appends what a
//! terminal printed. Both streams have byte offsets, so that anything may be sent twice.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::heartbeat::WireId;
use crate::nullable::or_default;

/// Most bytes of input in one answer, and of output in one call.
pub const MAX_CHUNK: usize = 64 << 10;
/// Most bytes that one terminal prints before it is closed.
pub const MAX_OUTPUT: u64 = 16 << 20;
/// Most bytes that may be typed into one terminal.
pub const MAX_INPUT: u64 = 1 << 20;
/// Terminals that may be open at a time in one hold.
pub const MAX_TERMINALS: usize = 4;
/// Longest `Prefer: wait` on the routes of a hold, in seconds.
pub const MAX_WAIT_SECONDS: u64 = 10;
/// A hold whose executor did not ask for its state this long is lost, in milliseconds.
pub const LOST_AFTER_MS: i64 = 25_000;

/// On the answer to a heartbeat: how long a running job's machine shall be kept if it fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldWish {
    /// `"<id>-<queue>"` on the multi-queue route, `"<id>"` on the other.
    pub id: WireId,
    /// Replaces [`crate::ext::JobExtensions::hold_seconds`] of this job; 0 = not any longer.
    pub seconds: u64,
}

/// Body of `POST …/jobs/{id}/hold`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HoldRequest {
    /// Must equal the hold's owner.
    #[serde(deserialize_with = "or_default")]
    pub executor_name: String,
    /// The terminals that the executor serves. While these are the open ones and there is no other
    /// news, the answer is held back.
    #[serde(deserialize_with = "or_default")]
    pub known_terminals: Vec<i64>,
    /// Set on the executor's last call: the machine is gone, or about to go. `""` on all others.
    #[serde(serialize_with = "write_end", deserialize_with = "read_end")]
    pub ended: Option<HoldEnd>,
}

/// Answer to `POST …/jobs/{id}/hold`; 410 once the hold has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HoldResponse {
    /// Until the hold ends by itself, by the instance's clock.
    pub remaining_ms: u64,
    /// A site admin wants the machine gone now.
    pub release: bool,
    /// The open terminals, oldest first; one that the executor serves and that is missing is closed.
    #[serde(deserialize_with = "or_default")]
    pub terminals: Vec<HeldTerminal>,
}

/// An open terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTerminal {
    /// Unique in the instance.
    pub id: i64,
    /// Characters in a line, 1 to 1000.
    pub cols: u16,
    /// Lines, 1 to 1000.
    pub rows: u16,
}

/// Body of `POST …/hold/terminals/{tid}/input`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InputRequest {
    /// Must equal the hold's owner.
    #[serde(deserialize_with = "or_default")]
    pub executor_name: String,
    /// Bytes of input that the executor has.
    pub offset: u64,
    /// The size that the executor has set; while it is the terminal's and there is no other news, the
    /// answer is held back. 0 = not known.
    pub cols: u16,
    /// See `cols`.
    pub rows: u16,
}

/// Answer to `POST …/hold/terminals/{tid}/input`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InputResponse {
    /// Where `data` starts: the request's offset.
    pub offset: u64,
    /// What was typed from there on, base64, at most [`MAX_CHUNK`] bytes; may be empty.
    #[serde(serialize_with = "write_base64", deserialize_with = "read_base64")]
    pub data: Vec<u8>,
    /// Characters in a line.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
    /// The terminal is closed: end the shell.
    pub closed: bool,
}

/// Why a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldEnd {
    /// Its time was over.
    Expired,
    /// A site admin released it.
    Released,
    /// The machine ended by itself.
    MachineGone,
    /// The executor was stopped.
    ExecutorStopped,
    /// The executor stopped asking. Said by the instance, never by an executor.
    ExecutorLost,
}

impl HoldEnd {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Released => "released",
            Self::MachineGone => "machine_gone",
            Self::ExecutorStopped => "executor_stopped",
            Self::ExecutorLost => "executor_lost",
        }
    }

    /// Reads a wire name.
    pub fn parse(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }
}

fn write_end<S: Serializer>(end: &Option<HoldEnd>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(end.map_or("", HoldEnd::as_str))
}

fn read_end<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HoldEnd>, D::Error> {
    let name: String = or_default(deserializer)?;
    if name.is_empty() {
        return Ok(None);
    }
    let unknown = || serde::de::Error::custom(format!("ended: no such end of a hold: {name:?}"));
    HoldEnd::parse(&name).map(Some).ok_or_else(unknown)
}

fn write_base64<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(data))
}

fn read_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text: String = or_default(deserializer)?;
    BASE64.decode(text).map_err(|_| serde::de::Error::custom("data is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeartbeatResponse, MarkRequest};
    use serde_json::json;

    #[test]
    fn the_hold_route_speaks_these_documents() {
        let request =
            HoldRequest { executor_name: "e".into(), known_terminals: vec![7], ended: None };
        let wire = json!({"executorName":"e","knownTerminals":[7],"ended":""});
        assert_eq!(serde_json::to_value(&request).unwrap(), wire);
        assert_eq!(serde_json::from_value::<HoldRequest>(wire).unwrap(), request);
        let null = json!({"executorName":null,"knownTerminals":null,"ended":null});
        assert_eq!(serde_json::from_value::<HoldRequest>(null).unwrap(), HoldRequest::default());

        let answer = HoldResponse {
            remaining_ms: 1500,
            release: true,
            terminals: vec![HeldTerminal { id: 7, cols: 80, rows: 24 }],
        };
        let wire = json!({"remainingMs":1500,"release":true,
            "terminals":[{"id":7,"cols":80,"rows":24}]});
        assert_eq!(serde_json::to_value(&answer).unwrap(), wire);
        assert_eq!(serde_json::from_value::<HoldResponse>(wire).unwrap(), answer);
    }

    #[test]
    fn the_input_route_speaks_these_documents() {
        let request = InputRequest { executor_name: "e".into(), offset: 3, cols: 80, rows: 24 };
        let wire = json!({"executorName":"e","offset":3,"cols":80,"rows":24});
        assert_eq!(serde_json::to_value(&request).unwrap(), wire);
        let short: InputRequest =
            serde_json::from_value(json!({"executorName":"e","offset":3})).unwrap();
        assert_eq!(short, InputRequest { cols: 0, rows: 0, ..request });

        let data = vec![0xff, 0, b'\r'];
        let answer = InputResponse { offset: 3, data, cols: 80, rows: 24, closed: false };
        let wire = json!({"offset":3,"data":"/wAN","cols":80,"rows":24,"closed":false});
        assert_eq!(serde_json::to_value(&answer).unwrap(), wire);
        assert_eq!(serde_json::from_value::<InputResponse>(wire).unwrap(), answer);
        assert!(serde_json::from_value::<InputResponse>(json!({"data":"*"})).is_err());
    }

    #[test]
    fn every_end_of_a_hold_has_one_name() {
        use HoldEnd::{ExecutorLost, ExecutorStopped, Expired, MachineGone, Released};
        for end in [Expired, Released, MachineGone, ExecutorStopped, ExecutorLost] {
            assert_eq!(serde_json::to_value(end).unwrap(), end.as_str());
            assert_eq!(HoldEnd::parse(end.as_str()), Some(end));
            let request = json!({ "ended": end.as_str() });
            let request: HoldRequest = serde_json::from_value(request).unwrap();
            assert_eq!(request.ended, Some(end));
        }
        let error = serde_json::from_value::<HoldRequest>(json!({"ended":"bored"})).unwrap_err();
        assert!(error.to_string().contains("bored"), "{error}");
    }

    #[test]
    fn a_stock_peer_never_sees_a_hold() {
        let mark = serde_json::to_value(MarkRequest::default()).unwrap();
        assert_eq!(mark.get("holdSeconds"), None);
        let beat = serde_json::to_value(HeartbeatResponse::default()).unwrap();
        assert_eq!(beat.get("holds"), None);

        let mark = MarkRequest { hold_seconds: Some(1800), ..MarkRequest::default() };
        assert_eq!(serde_json::to_value(mark).unwrap()["holdSeconds"], 1800);
        let wish = HoldWish { id: WireId::Text("8-jobs".into()), seconds: 0 };
        let beat = HeartbeatResponse { holds: vec![wish.clone()], ..HeartbeatResponse::default() };
        let wire = serde_json::to_value(&beat).unwrap();
        assert_eq!(wire["holds"], json!([{"id":"8-jobs","seconds":0}]));
        assert_eq!(serde_json::from_value::<HeartbeatResponse>(wire).unwrap().holds, [wish]);
    }
}

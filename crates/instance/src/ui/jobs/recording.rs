//! A terminal's recording as a download in the format asciicast v2, which `asciinema play` and others show:
//! <https://docs.asciinema.org/manual/asciicast/v2/>.

use std::collections::HashMap;
use std::sync::Arc;

use async_stream::try_stream;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde_json::json;
use store::{Terminal, TerminalEvent};

use super::terminal::find_terminal;
use crate::App;
use crate::http::api::jobs::utf8;
use crate::http::error::Error;
use crate::ui::visitor::Admin;

/// Bytes read at a time.
const BATCH: usize = 256 << 10;

/// `GET /jobs/{id}/terminal/{terminal}/recording`: everything printed, typed and resized, with times; site
/// admins.
pub(super) async fn download(
    State(app): State<Arc<App>>,
    Admin(_): Admin,
    Path((id, terminal)): Path<(i64, i64)>,
) -> Result<Response, Error> {
    let terminal = find_terminal(&app, id, terminal).await?;
    let name = format!("attachment; filename=\"job-{id}-terminal-{}.cast\"", terminal.id);
    let lines = try_stream! {
        let mut cast = Cast::new(&terminal);
        let mut after = 0;
        loop {
            let events = app.store.terminal_events(terminal.id, after, BATCH).await?;
            let Some(last) = events.last() else { break };
            after = last.seq;
            yield Bytes::from(cast.lines(&events));
        }
        yield Bytes::from(cast.end());
    };
    let lines: std::pin::Pin<Box<dyn futures_util::Stream<Item = store::Result<Bytes>> + Send>> =
        Box::pin(lines);
    let headers = [
        (header::CONTENT_TYPE, "application/x-asciicast".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// Writes events as lines of text. Characters whose bytes came apart are put together.
struct Cast<'a> {
    terminal: &'a Terminal,
    begun: bool,
    /// Time of the last event, and the unfinished character of each stream.
    at: i64,
    carried: HashMap<&'static str, Vec<u8>>,
}

impl<'a> Cast<'a> {
    fn new(terminal: &'a Terminal) -> Self {
        let at = terminal.opened_at;
        Self { terminal, begun: false, at, carried: HashMap::new() }
    }

    fn lines(&mut self, events: &[TerminalEvent]) -> String {
        let mut out = String::new();
        for event in events {
            self.at = event.at;
            let kind = match event.kind.as_str() {
                "i" => "i",
                "o" => "o",
                _ => "r",
            };
            if kind == "r" {
                let size = String::from_utf8_lossy(&event.data);
                // The first is the size it was opened with.
                if !std::mem::replace(&mut self.begun, true) {
                    out.push_str(&self.header(&size));
                    continue;
                }
                out.push_str(&self.line(kind, &size));
                continue;
            }
            let mut bytes = self.carried.remove(kind).unwrap_or_default();
            bytes.extend_from_slice(&event.data);
            let rest = bytes.split_off(utf8::whole(&bytes));
            if !rest.is_empty() {
                self.carried.insert(kind, rest);
            }
            if !bytes.is_empty() {
                out.push_str(&self.line(kind, &String::from_utf8_lossy(&bytes)));
            }
        }
        out
    }

    fn header(&self, size: &str) -> String {
        let (width, height) = size.split_once('x').unwrap_or(("80", "24"));
        let number = |text: &str| text.parse::<u16>().unwrap_or(1);
        let terminal = self.terminal;
        let title =
            format!("job {}, terminal {}, {}", terminal.job_id, terminal.id, terminal.opened_by);
        let header = json!({
            "version": 2,
            "width": number(width),
            "height": number(height),
            "timestamp": terminal.opened_at / 1000,
            "title": title,
        });
        format!("{header}\n")
    }

    fn line(&self, kind: &str, text: &str) -> String {
        let seconds = (self.at - self.terminal.opened_at).max(0) as f64 / 1000.0;
        format!("{}\n", json!([seconds, kind, text]))
    }

    /// What was cut off in the middle of a character.
    fn end(&mut self) -> String {
        let rest = std::mem::take(&mut self.carried);
        let line = |kind| {
            let bytes: &Vec<u8> = rest.get(kind)?;
            Some(self.line(kind, &String::from_utf8_lossy(bytes)))
        };
        ["i", "o"].into_iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64, kind: &str, data: &[u8]) -> TerminalEvent {
        TerminalEvent { seq: at, at, kind: kind.to_owned(), data: data.to_vec() }
    }

    #[test]
    fn characters_that_came_apart_are_whole_and_nothing_breaks_the_lines() {
        let terminal = Terminal {
            id: 7,
            job_id: 5,
            attempt: 1,
            opened_by_id: 1,
            opened_by: "ada".to_owned(),
            cols: 100,
            rows: 30,
            opened_at: 10_000,
            closed_at: None,
            end: None,
            exit_code: None,
            input_size: 0,
            output_size: 0,
        };
        let mut cast = Cast::new(&terminal);
        let mut text = cast.lines(&[
            event(10_000, "r", b"80x24"),
            event(10_500, "o", b"a\xf0\x9f"),
            event(10_600, "i", b"\x03\xc3"),
            event(11_000, "o", b"\x98\x80\r\n\x1b]52;c;aGk=\x07"),
        ]);
        text += &cast.lines(&[event(12_250, "r", b"100x30"), event(12_500, "o", b"\xff\xe2\x82")]);
        text += &cast.end();
        let lines: Vec<&str> = text.lines().collect();
        let header: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(
            (&header["version"], &header["width"], &header["height"]),
            (&json!(2), &json!(80), &json!(24))
        );
        assert_eq!(
            (&header["timestamp"], &header["title"]),
            (&json!(10), &json!("job 5, terminal 7, ada"))
        );
        let rest: Vec<serde_json::Value> =
            lines[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = [
            json!([0.5, "o", "a"]),
            json!([0.6, "i", "\u{3}"]),
            json!([1.0, "o", "😀\r\n\u{1b}]52;c;aGk=\u{7}"]),
            json!([2.25, "r", "100x30"]),
            json!([2.5, "o", "\u{fffd}"]),
            json!([2.5, "i", "\u{fffd}"]),
            json!([2.5, "o", "\u{fffd}"]),
        ];
        assert_eq!(rest, expected);
    }
}

//! What a terminal prints, as it comes. The page's cursor is the offset in the output, and the page keeps it:
//! any replica can continue.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::response::sse::Event;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use protocol::hold::MAX_CHUNK;
use serde::Deserialize;
use store::{Stream, Topic};

use super::held;
use super::terminal::find_terminal;
use crate::App;
use crate::http::error::Error;
use crate::ui::list_stream;
use crate::ui::sse::{self, Glances, Source};
use crate::ui::visitor::Admin;

/// What is printed within this time is sent together; short enough for typing not to lag.
const PACE: Duration = Duration::from_millis(15);
/// Looked at again without a wake-up.
const IDLE: Duration = Duration::from_secs(2);

/// Where the page is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct At {
    from: String,
    /// Instead of `from`, when a connection is taken up again.
    resume: String,
}

/// `GET /jobs/{id}/terminal/{terminal}/stream?from=BYTE`: events `output` (base64), `size` (`80x24`) and
/// `end`; site admins.
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    Admin(visitor): Admin,
    Path((id, terminal)): Path<(i64, i64)>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let from = list_stream::shown(&headers, &at.resume, &at.from);
    let from = if from.is_empty() { Ok(0) } else { from.parse() };
    let from = from.map_err(|_| Error::BadRequest("from: no place in the output".to_owned()))?;
    let wake = app.store.subscribe([Topic::Terminal(terminal)]);
    find_terminal(&app, id, terminal).await?;
    let source = TerminalSource {
        app: Arc::clone(&app),
        id: terminal,
        glances: Glances::new(wake, PACE, IDLE),
        from,
        size: (0, 0),
        more: false,
        ended: false,
    };
    Ok(sse::respond(app, visitor, source))
}

struct TerminalSource {
    app: Arc<App>,
    id: i64,
    glances: Glances,
    /// Bytes of output that the page has.
    from: u64,
    /// The size that the page was told.
    size: (u16, u16),
    /// There was more output than one look took.
    more: bool,
    ended: bool,
}

impl Source for TerminalSource {
    async fn next(&mut self) -> store::Result<Option<Vec<Event>>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            match self.more {
                true => self.glances.at_once(),
                false => self.glances.due().await,
            }
            let events = self.look().await?;
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }
}

impl TerminalSource {
    async fn look(&mut self) -> store::Result<Vec<Event>> {
        let mut events = Vec::new();
        // Read before the output: if it is closed by then, the output is all there is.
        let Some(terminal) = self.app.store.terminal(self.id).await? else {
            self.ended = true;
            return Ok(vec![Event::default().event("end").data("gone")]);
        };
        let size = (terminal.cols, terminal.rows);
        if self.size != size {
            self.size = size;
            events.push(Event::default().event("size").data(format!("{}x{}", size.0, size.1)));
        }
        let store = &self.app.store;
        let data = store.read_terminal(self.id, Stream::Output, self.from, MAX_CHUNK).await?;
        if !data.is_empty() {
            self.from += data.len() as u64;
            let event = Event::default().event("output").id(self.from.to_string());
            events.push(event.data(BASE64.encode(&data)));
        }
        self.more = self.from < terminal.output_size;
        if !terminal.is_open() && !self.more {
            self.ended = true;
            events.push(Event::default().event("end").data(held::outcome(&terminal)));
        }
        Ok(events)
    }
}

//! The page of a terminal, and what it sends: what was typed, and its size. Site admins only; typing is for
//! the one who opened it, whose name is on the record.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use protocol::hold::MAX_CHUNK;
use serde::Deserialize;
use store::{Appended, Hold, Stream, Terminal, TerminalAppend};

use super::{TerminalPage, held};
use crate::App;
use crate::http::auth::SiteAdmin;
use crate::http::error::Error;
use crate::ui::page::Place;
use crate::ui::visitor::Admin;
use crate::ui::{answer, format};

/// Largest size, in characters; a terminal is never larger on a screen.
const MAX_SIDE: u16 = 1000;

/// The terminal, if it is one of this job.
pub(super) async fn find_terminal(app: &App, job: i64, id: i64) -> Result<Terminal, Error> {
    let terminal = app.store.terminal(id).await?;
    terminal.filter(|terminal| terminal.job_id == job).ok_or(Error::NotFound("terminal"))
}

/// The same, for somebody who wants to type into it.
async fn find_own(app: &App, admin: &SiteAdmin, job: i64, id: i64) -> Result<Terminal, Error> {
    let terminal = find_terminal(app, job, id).await?;
    if terminal.opened_by_id == admin.0.id() {
        return Ok(terminal);
    }
    let text = format!("only {} may type here; open a terminal of your own", terminal.opened_by);
    Err(Error::Forbidden(text))
}

/// `GET /jobs/{id}/terminal/{terminal}`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Admin(visitor): Admin,
    Path((id, terminal)): Path<(i64, i64)>,
) -> Result<Response, Error> {
    let terminal = find_terminal(&app, id, terminal).await?;
    let hold = app.store.hold(id, terminal.attempt).await?.filter(Hold::is_open);
    let now = app.clock.now_ms();
    let path = format!("/jobs/{id}/terminal/{}", terminal.id);
    let page = TerminalPage {
        page: visitor.page(&app, &format!("Terminal {}", terminal.id), &path, Place::Jobs),
        job: id,
        yours: terminal.opened_by_id == visitor.user.id(),
        open: terminal.is_open(),
        outcome: held::outcome(&terminal),
        opened: format::ago(terminal.opened_at, now),
        executor: hold.as_ref().map_or(String::new(), |hold| hold.executor.clone()),
        left: hold.map(|hold| format::left(hold.held_until, now)),
        address: path,
        terminal,
    };
    answer::page(&visitor, &page)
}

/// Where what was typed begins.
#[derive(Debug, Deserialize)]
pub(super) struct At {
    offset: u64,
}

/// `POST /jobs/{id}/terminal/{terminal}/input?offset=`, body: raw bytes. 200 with the bytes stored; 409 with
/// the same when the offset is not the end of what is stored: go on from there; 410 when it is closed.
pub(super) async fn input(
    State(app): State<Arc<App>>,
    admin: SiteAdmin,
    Path((id, terminal)): Path<(i64, i64)>,
    Query(at): Query<At>,
    body: Body,
) -> Result<Response, Error> {
    let terminal = find_own(&app, &admin, id, terminal).await?;
    let data = axum::body::to_bytes(body, MAX_CHUNK).await;
    let data = data.map_err(|_| Error::TooLarge { limit: MAX_CHUNK as u64 })?;
    let (stream, offset) = (Stream::Input, at.offset);
    let append = TerminalAppend { stream, offset, data: &data, exit_code: None };
    let now = app.clock.now_ms();
    let (status, size) = match app.store.append_terminal(terminal.id, &append, now).await {
        Ok(Appended::Stored(size)) => (StatusCode::OK, size),
        Ok(Appended::Conflict(size)) | Err(store::Error::Gap { stored: size }) => {
            (StatusCode::CONFLICT, size)
        }
        Ok(Appended::Closed(_)) => (StatusCode::GONE, terminal.input_size),
        Err(error) => return Err(error.into()),
    };
    Ok((status, size.to_string()).into_response())
}

/// Characters in a line, and lines.
#[derive(Debug, Deserialize)]
pub(super) struct Size {
    cols: u16,
    rows: u16,
}

/// `POST /jobs/{id}/terminal/{terminal}/size?cols=&rows=`: 204; 410 when it is closed.
pub(super) async fn size(
    State(app): State<Arc<App>>,
    admin: SiteAdmin,
    Path((id, terminal)): Path<(i64, i64)>,
    Query(size): Query<Size>,
) -> Result<Response, Error> {
    let terminal = find_own(&app, &admin, id, terminal).await?;
    for (name, value) in [("cols", size.cols), ("rows", size.rows)] {
        if !(1..=MAX_SIDE).contains(&value) {
            return Err(Error::invalid(name, format!("must be from 1 to {MAX_SIDE}")));
        }
    }
    let now = app.clock.now_ms();
    let open = app.store.resize_terminal(terminal.id, size.cols, size.rows, now).await?;
    Ok(if open { StatusCode::NO_CONTENT } else { StatusCode::GONE }.into_response())
}

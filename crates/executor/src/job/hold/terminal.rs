//! One terminal of a held machine: a shell in it, and both byte streams to and from the instance.

use std::sync::Arc;
use std::time::Duration;

use protocol::hold::{HeldTerminal, InputRequest};
use tokio::time::Instant;

use super::output::{Sent, Unsent};
use super::{Held, QUIET};
use crate::client::{Backoff, ClientError, is_over};
use crate::runtime::{Terminal, TerminalInput, TerminalSize};

/// What a program that was killed ended with.
const KILLED: i64 = -1;
/// After the first piece of output, that long more is waited for: what one key changes on a screen comes in
/// several pieces.
const GATHER: Duration = Duration::from_millis(5);

/// Serves it until its shell has ended and the instance knows, or the instance closes it.
pub(super) async fn serve(held: Arc<Held>, terminal: HeldTerminal) {
    let (job, id) = (held.client.id(), terminal.id);
    let size = TerminalSize { cols: terminal.cols, rows: terminal.rows };
    let place = &held.place;
    let opened = held.machine.terminal(place.image_index, &place.image, &place.cwd, size).await;
    let mut unsent = Unsent::default();
    let result = match opened {
        Ok(shell) => {
            tracing::info!(job, terminal = id, "a terminal was opened in a held machine");
            let input = shell.input();
            tokio::select! {
                printed = print(&held, id, shell, &mut unsent) => printed,
                typed = type_in(&held, id, size, &input) => typed,
            }
        }
        Err(error) => {
            unsent.push(format!("no shell could be opened: {error}\r\n").as_bytes());
            deliver(&held, id, &mut unsent, Some(KILLED)).await
        }
    };
    match result {
        Ok(()) => tracing::info!(job, terminal = id, "a terminal ended"),
        Err(reason) => tracing::info!(job, terminal = id, %reason, "a terminal was closed"),
    }
}

/// Carries what the shell prints, to its end. While the instance does not take it, the shell is not read.
async fn print(
    held: &Held,
    id: i64,
    mut shell: Terminal,
    unsent: &mut Unsent,
) -> Result<(), ClientError> {
    while let Some(printed) = shell.next().await {
        unsent.push(&printed);
        let gathered = Instant::now() + GATHER;
        while unsent.has_room()
            && let Ok(Some(printed)) = tokio::time::timeout_at(gathered, shell.next()).await
        {
            unsent.push(&printed);
        }
        deliver(held, id, unsent, None).await?;
    }
    let code = match shell.wait().await {
        Ok(code) => code,
        Err(error) => {
            unsent.push(format!("the shell could not run: {error}\r\n").as_bytes());
            KILLED
        }
    };
    deliver(held, id, unsent, Some(code)).await
}

/// Sends until the instance has everything; with the exit code, until it has that.
async fn deliver(
    held: &Held,
    id: i64,
    unsent: &mut Unsent,
    exit_code: Option<i64>,
) -> Result<(), ClientError> {
    let mut backoff = Backoff::transport();
    loop {
        let (offset, chunk) = unsent.chunk();
        let last = chunk.len() == unsent.len();
        let code = exit_code.filter(|_| last);
        if chunk.is_empty() && code.is_none() {
            return Ok(());
        }
        match held.client.terminal_output(id, offset, chunk, code).await {
            Ok(appended) => match unsent.acknowledged(appended) {
                Sent::All if code.is_some() == exit_code.is_some() => return Ok(()),
                Sent::All | Sent::Part => backoff.reset(),
                // Nothing that could be repeated: the two ends disagree for good.
                Sent::Lost(error) => return Err(error),
            },
            Err(error) if is_over(&error) || !error.is_transient() => return Err(error),
            Err(_) => tokio::time::sleep(backoff.next_delay()).await,
        }
    }
}

/// Carries what is typed and the size, until the terminal is closed.
async fn type_in(
    held: &Held,
    id: i64,
    mut size: TerminalSize,
    input: &TerminalInput,
) -> Result<(), ClientError> {
    let mut offset = 0;
    let mut backoff = Backoff::transport();
    let mut alive = true;
    loop {
        let asked = Instant::now();
        let executor_name = held.client.executor_name().to_owned();
        let request = InputRequest { executor_name, offset, cols: size.cols, rows: size.rows };
        let answer = match held.client.terminal_input(id, &request).await {
            Ok(answer) => answer,
            Err(error) if is_over(&error) || !error.is_transient() => return Err(error),
            Err(_) => {
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
        };
        backoff.reset();
        let wanted = TerminalSize { cols: answer.cols, rows: answer.rows };
        let resized = wanted != size;
        if alive && resized {
            alive = input.resize(wanted).await.is_ok();
        }
        size = wanted;
        // An answer to an older question repeats what is known already.
        let known = usize::try_from(offset.saturating_sub(answer.offset)).unwrap_or(usize::MAX);
        let news = answer.data.get(known..).unwrap_or_default();
        if alive && !news.is_empty() {
            alive = input.send(news).await.is_ok();
        }
        offset += news.len() as u64;
        if answer.closed {
            return Ok(());
        }
        if news.is_empty() && !resized {
            tokio::time::sleep(QUIET.saturating_sub(asked.elapsed())).await;
        }
    }
}

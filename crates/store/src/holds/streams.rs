//! The two byte streams of a terminal. Both grow at offsets, so that anything may be sent twice.

use futures_util::TryStreamExt as _;
use protocol::hold::{MAX_INPUT, MAX_OUTPUT};

use super::recording::{CHUNK, NewEvent, push};
use super::terminals::{Terminal, TerminalEnd, close, lock_terminal, topics};
use crate::db::{Store, give_up};
use crate::error::{Error, Result};
use crate::wake::Topic;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// What was typed.
    Input,
    /// What was printed.
    Output,
}

impl Stream {
    fn kind(self) -> &'static str {
        match self {
            Self::Input => "i",
            Self::Output => "o",
        }
    }

    fn limit(self) -> (u64, TerminalEnd) {
        match self {
            Self::Input => (MAX_INPUT, TerminalEnd::InputLimit),
            Self::Output => (MAX_OUTPUT, TerminalEnd::OutputLimit),
        }
    }

    fn size(self, terminal: &Terminal) -> u64 {
        match self {
            Self::Input => terminal.input_size,
            Self::Output => terminal.output_size,
        }
    }
}

/// A piece of a stream at its place.
#[derive(Clone, Copy, Debug)]
pub struct TerminalAppend<'a> {
    /// Which stream.
    pub stream: Stream,
    /// Where `data` begins in it.
    pub offset: u64,
    /// Raw bytes; may be empty in the final call.
    pub data: &'a [u8],
    /// The shell has ended with this code; -1 = it was killed. Closes the terminal.
    pub exit_code: Option<i64>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// So many bytes are stored now.
    Stored(u64),
    /// Somebody else wrote something different at this place: so many bytes are stored.
    Conflict(u64),
    /// The terminal is closed, maybe by this append, which went over the limit.
    Closed(TerminalEnd),
}

impl Store {
    /// Appends to a stream. What is stored already is skipped, so a call may be repeated.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Gap`] when `offset` is past the end: nothing was stored, continue
    /// from there.
    pub async fn append_terminal(
        &self,
        id: i64,
        append: &TerminalAppend<'_>,
        now: i64,
    ) -> Result<Appended> {
        let stream = append.stream;
        let mut tx = self.begin().await?;
        let terminal = lock_terminal(self, &mut tx, id).await?;
        let terminal = terminal.ok_or_else(|| Error::not_found("terminal", id))?;
        let size = stream.size(&terminal);
        if let Some(end) = terminal.end {
            // The answer to the last call may have been lost.
            let again = end == TerminalEnd::Exited && append.exit_code == terminal.exit_code;
            let known = append.offset.saturating_add(append.data.len() as u64) <= size;
            let answer =
                if again && known { Appended::Stored(size) } else { Appended::Closed(end) };
            return give_up(tx, Ok(answer)).await;
        }
        if append.offset > size {
            return give_up(tx, Err(Error::Gap { stored: size })).await;
        }
        let known = usize::try_from(size - append.offset).unwrap_or(usize::MAX);
        let known = known.min(append.data.len());
        if stream == Stream::Input && known > 0 {
            // An executor repeats itself; two pages of one person type different things.
            let stored = self.read_terminal(id, stream, append.offset, known).await?;
            if stored != append.data[..known] {
                return give_up(tx, Ok(Appended::Conflict(size))).await;
            }
        }
        let (limit, over) = stream.limit();
        let new = &append.data[known..];
        let room = usize::try_from(limit - size.min(limit)).unwrap_or(usize::MAX);
        let kept = &new[..new.len().min(room)];
        if kept.is_empty() && new.is_empty() && append.exit_code.is_none() {
            return give_up(tx, Ok(Appended::Stored(size))).await;
        }
        let start = i64::try_from(size).unwrap_or(i64::MAX);
        let pieces = kept.chunks(CHUNK).enumerate().map(|(index, data)| NewEvent {
            kind: stream.kind(),
            start: start + (index * CHUNK) as i64,
            data,
        });
        push(&mut tx, id, &pieces.collect::<Vec<_>>(), now).await?;
        let grow = match stream {
            Stream::Input => "UPDATE terminals SET input_size = input_size + $2 WHERE id = $1",
            Stream::Output => "UPDATE terminals SET output_size = output_size + $2 WHERE id = $1",
        };
        sqlx::query(grow).bind(id).bind(kept.len() as i64).execute(&mut *tx).await?;
        let end = if kept.len() < new.len() {
            Some((over, None))
        } else {
            append.exit_code.map(|code| (TerminalEnd::Exited, Some(code)))
        };
        if let Some((end, exit_code)) = end {
            close(&mut tx, id, end, exit_code, now).await?;
        }
        tx.commit().await?;
        match end {
            Some(_) => self.bump(&topics(&terminal)),
            None => self.bump(&[Topic::Terminal(id)]),
        }
        Ok(match end {
            Some((end, None)) => Appended::Closed(end),
            _ => Appended::Stored(size + kept.len() as u64),
        })
    }

    /// A stream from byte `from` on, at most `max` bytes. Empty at the end, and for a terminal that
    /// does not exist.
    ///
    /// # Errors
    /// Database errors.
    pub async fn read_terminal(
        &self,
        id: i64,
        stream: Stream,
        from: u64,
        max: usize,
    ) -> Result<Vec<u8>> {
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        // The piece that `from` lies in begins at most one chunk before it.
        let mut pieces = sqlx::query_as::<_, (i64, Vec<u8>)>(
            "SELECT start, data FROM terminal_events WHERE terminal_id = $1 AND kind = $2 \
             AND start > $3 AND start + size > $4 ORDER BY start",
        )
        .bind(id)
        .bind(stream.kind())
        .bind(from - CHUNK as i64)
        .bind(from)
        .fetch(self.read());
        let mut out = Vec::new();
        while let Some((start, data)) = pieces.try_next().await? {
            let skip = usize::try_from(from - start).unwrap_or(0);
            let room = max - out.len();
            let wanted = data.get(skip..).unwrap_or_default();
            out.extend_from_slice(&wanted[..wanted.len().min(room)]);
            if out.len() >= max {
                break;
            }
        }
        Ok(out)
    }
}

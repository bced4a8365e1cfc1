//! Terminals: opened, resized and closed by site admins, or ended by their shell.

use protocol::hold::MAX_TERMINALS;
use sqlx::AssertSqlSafe;

use super::lock;
use super::recording::{NewEvent, push};
use crate::db::{Store, Tx, give_up};
use crate::error::Result;
use crate::wake::Topic;

/// A shell in a kept machine, and what is known of it afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Unique in the instance.
    pub id: i64,
    /// The job.
    pub job_id: i64,
    /// The attempt whose machine it is in.
    pub attempt: i64,
    /// User who opened it.
    pub opened_by_id: i64,
    /// Name of that user at the time.
    pub opened_by: String,
    /// Characters in a line.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
    /// When it was opened.
    pub opened_at: i64,
    /// When it was closed.
    pub closed_at: Option<i64>,
    /// Why it was closed; `None` while it is open.
    pub end: Option<TerminalEnd>,
    /// Exit code of the shell, if it ended by itself; -1 = killed.
    pub exit_code: Option<i64>,
    /// Bytes typed.
    pub input_size: u64,
    /// Bytes printed.
    pub output_size: u64,
}

impl Terminal {
    /// Somebody may type.
    pub fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }
}

/// Why a terminal was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TerminalEnd {
    /// The shell ended.
    Exited,
    /// A site admin closed it.
    Closed,
    /// It printed more than [`protocol::hold::MAX_OUTPUT`].
    OutputLimit,
    /// More than [`protocol::hold::MAX_INPUT`] was typed.
    InputLimit,
    /// Its machine is gone.
    HoldEnded,
}

impl TerminalEnd {
    const ALL: [Self; 5] =
        [Self::Exited, Self::Closed, Self::OutputLimit, Self::InputLimit, Self::HoldEnded];

    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Closed => "closed",
            Self::OutputLimit => "output_limit",
            Self::InputLimit => "input_limit",
            Self::HoldEnded => "hold_ended",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == name)
    }
}

/// Who opens a terminal, and how large.
#[derive(Clone, Copy, Debug)]
pub struct NewTerminal<'a> {
    /// User.
    pub user_id: i64,
    /// Name of the user.
    pub user_name: &'a str,
    /// Characters in a line.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
}

/// What became of the wish for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The executor is told at once.
    Terminal(Terminal),
    /// The machine is not kept, or is about to go.
    NotHeld,
    /// [`MAX_TERMINALS`] are open already.
    TooMany,
}

const COLUMNS: &str = "id, job_id, attempt, opened_by_id, opened_by, cols, rows, opened_at, \
    closed_at, close_reason, exit_code, input_size, output_size";

#[derive(sqlx::FromRow)]
struct TerminalRow {
    id: i64,
    job_id: i64,
    attempt: i64,
    opened_by_id: i64,
    opened_by: String,
    cols: i64,
    rows: i64,
    opened_at: i64,
    closed_at: Option<i64>,
    close_reason: String,
    exit_code: Option<i64>,
    input_size: i64,
    output_size: i64,
}

impl From<TerminalRow> for Terminal {
    fn from(row: TerminalRow) -> Self {
        Self {
            id: row.id,
            job_id: row.job_id,
            attempt: row.attempt,
            opened_by_id: row.opened_by_id,
            opened_by: row.opened_by,
            cols: u16::try_from(row.cols).unwrap_or(u16::MAX),
            rows: u16::try_from(row.rows).unwrap_or(u16::MAX),
            opened_at: row.opened_at,
            closed_at: row.closed_at,
            end: TerminalEnd::parse(&row.close_reason),
            exit_code: row.exit_code,
            input_size: u64::try_from(row.input_size).unwrap_or(0),
            output_size: u64::try_from(row.output_size).unwrap_or(0),
        }
    }
}

/// Reads a terminal and keeps it until the transaction ends.
pub(super) async fn lock_terminal(store: &Store, tx: &mut Tx, id: i64) -> Result<Option<Terminal>> {
    let lock = store.backend().for_update();
    let sql = format!("SELECT {COLUMNS} FROM terminals WHERE id = $1{lock}");
    let row: Option<TerminalRow> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(&mut **tx).await?;
    Ok(row.map(Terminal::from))
}

/// Closes a terminal that the caller holds.
pub(super) async fn close(
    tx: &mut Tx,
    id: i64,
    end: TerminalEnd,
    exit_code: Option<i64>,
    now: i64,
) -> Result<()> {
    sqlx::query(
        "UPDATE terminals SET closed_at = $2, close_reason = $3, exit_code = $4 WHERE id = $1",
    )
    .bind(id)
    .bind(now)
    .bind(end.as_str())
    .bind(exit_code)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn push_size(tx: &mut Tx, terminal: &Terminal, now: i64) -> Result<()> {
    let size = format!("{}x{}", terminal.cols, terminal.rows);
    let event = NewEvent { kind: "r", start: 0, data: size.as_bytes() };
    push(tx, terminal.id, &[event], now).await
}

/// Who must hear that a terminal was opened or closed.
pub(super) fn topics(terminal: &Terminal) -> [Topic; 3] {
    let job = terminal.job_id;
    [Topic::Terminal(terminal.id), Topic::Hold(job), Topic::Job(job)]
}

impl Store {
    /// Opens a terminal to the machine of an attempt.
    ///
    /// # Errors
    /// Database errors.
    pub async fn open_terminal(
        &self,
        job_id: i64,
        attempt: i64,
        new: &NewTerminal<'_>,
        now: i64,
    ) -> Result<Opened> {
        let mut tx = self.begin().await?;
        let hold = lock(self, &mut tx, job_id, attempt).await?;
        let held = hold.is_some_and(|hold| {
            hold.is_open() && hold.released_by.is_empty() && hold.held_until > now
        });
        if !held {
            return give_up(tx, Ok(Opened::NotHeld)).await;
        }
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM terminals \
             WHERE job_id = $1 AND attempt = $2 AND closed_at IS NULL",
        )
        .bind(job_id)
        .bind(attempt)
        .fetch_one(&mut *tx)
        .await?;
        if open >= MAX_TERMINALS as i64 {
            return give_up(tx, Ok(Opened::TooMany)).await;
        }
        let sql = format!(
            "INSERT INTO terminals \
               (job_id, attempt, opened_by_id, opened_by, cols, rows, opened_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {COLUMNS}"
        );
        let row: TerminalRow = sqlx::query_as(AssertSqlSafe(sql))
            .bind(job_id)
            .bind(attempt)
            .bind(new.user_id)
            .bind(new.user_name)
            .bind(i64::from(new.cols))
            .bind(i64::from(new.rows))
            .bind(now)
            .fetch_one(&mut *tx)
            .await?;
        let terminal = Terminal::from(row);
        // The recording begins with the size it was opened with.
        push_size(&mut tx, &terminal, now).await?;
        tx.commit().await?;
        self.bump(&topics(&terminal));
        Ok(Opened::Terminal(terminal))
    }

    /// Closes a terminal. False when it was closed already.
    ///
    /// # Errors
    /// Database errors.
    pub async fn close_terminal(&self, id: i64, now: i64) -> Result<bool> {
        let mut tx = self.begin().await?;
        let terminal = lock_terminal(self, &mut tx, id).await?;
        let Some(terminal) = terminal.filter(Terminal::is_open) else {
            return give_up(tx, Ok(false)).await;
        };
        close(&mut tx, id, TerminalEnd::Closed, None, now).await?;
        tx.commit().await?;
        self.bump(&topics(&terminal));
        Ok(true)
    }

    /// Gives a terminal another size. False when it is closed.
    ///
    /// # Errors
    /// Database errors.
    pub async fn resize_terminal(&self, id: i64, cols: u16, rows: u16, now: i64) -> Result<bool> {
        let mut tx = self.begin().await?;
        let terminal = lock_terminal(self, &mut tx, id).await?;
        let Some(terminal) = terminal.filter(Terminal::is_open) else {
            return give_up(tx, Ok(false)).await;
        };
        if (terminal.cols, terminal.rows) == (cols, rows) {
            return give_up(tx, Ok(true)).await;
        }
        push_size(&mut tx, &Terminal { cols, rows, ..terminal }, now).await?;
        sqlx::query("UPDATE terminals SET cols = $2, rows = $3 WHERE id = $1")
            .bind(id)
            .bind(i64::from(cols))
            .bind(i64::from(rows))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.bump(&[Topic::Terminal(id)]);
        Ok(true)
    }

    /// A terminal, open or closed.
    ///
    /// # Errors
    /// Database errors.
    pub async fn terminal(&self, id: i64) -> Result<Option<Terminal>> {
        let sql = format!("SELECT {COLUMNS} FROM terminals WHERE id = $1");
        let row: Option<TerminalRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(self.read()).await?;
        Ok(row.map(Terminal::from))
    }

    /// All terminals of a job, oldest first.
    ///
    /// # Errors
    /// Database errors.
    pub async fn terminals(&self, job_id: i64) -> Result<Vec<Terminal>> {
        let sql = format!("SELECT {COLUMNS} FROM terminals WHERE job_id = $1 ORDER BY id");
        let rows: Vec<TerminalRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(job_id).fetch_all(self.read()).await?;
        Ok(rows.into_iter().map(Terminal::from).collect())
    }
}

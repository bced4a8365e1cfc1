//! Jobs for pages and the API.

use sqlx::AssertSqlSafe;

use super::row::{COLUMNS, JobRow};
use super::{Job, JobState};
use crate::db::Store;
use crate::error::Result;

/// Which jobs to list; empty and `None` mean any.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// In this queue.
    pub queue: Option<String>,
    /// In this state.
    pub state: Option<JobState>,
    /// Asked for by this user.
    pub creator_id: Option<i64>,
    /// On this repository.
    pub repository: Option<String>,
    /// Of this executor, now or last.
    pub executor: Option<String>,
    /// Part of name, repository or message, any case; or the id.
    pub text: Option<String>,
    /// Cursor: only jobs with a smaller id.
    pub before: Option<i64>,
    /// At most this many; 1 to 500.
    pub limit: i64,
}

enum Value {
    Int(i64),
    Text(String),
}

impl Store {
    /// One job.
    ///
    /// # Errors
    /// Database errors.
    pub async fn job(&self, id: i64) -> Result<Option<Job>> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = $1");
        let row: Option<JobRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(self.read()).await?;
        row.map(JobRow::into_job).transpose()
    }

    /// The payload of a job as it was enqueued.
    ///
    /// # Errors
    /// Database errors.
    pub async fn payload(&self, job_id: i64) -> Result<Option<String>> {
        Ok(sqlx::query_scalar("SELECT payload FROM job_payloads WHERE job_id = $1")
            .bind(job_id)
            .fetch_optional(self.read())
            .await?)
    }

    /// Jobs, newest first. The next page begins before the id of the last one.
    ///
    /// # Errors
    /// Database errors.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        let (clauses, values) = conditions(filter);
        let limit = values.len() + 1;
        let sql =
            format!("SELECT {COLUMNS} FROM jobs WHERE {clauses} ORDER BY id DESC LIMIT ${limit}");
        let mut query = sqlx::query_as::<_, JobRow>(AssertSqlSafe(sql));
        for value in values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
            };
        }
        let rows = query.bind(filter.limit.clamp(1, 500)).fetch_all(self.read()).await?;
        rows.into_iter().map(JobRow::into_job).collect()
    }

    /// How many jobs a filter matches; counts no further than `at_most`. Cursor and limit of the
    /// filter do not matter.
    ///
    /// # Errors
    /// Database errors.
    pub async fn count_jobs(&self, filter: &JobFilter, at_most: i64) -> Result<i64> {
        let (clauses, values) = conditions(&JobFilter { before: None, ..filter.clone() });
        let n = values.len() + 1;
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 AS one FROM jobs WHERE {clauses} LIMIT ${n}) AS matched"
        );
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
        for value in values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
            };
        }
        Ok(query.bind(at_most).fetch_one(self.read()).await?)
    }

    /// What an executor runs now, oldest first.
    ///
    /// # Errors
    /// Database errors.
    pub async fn executor_jobs(&self, executor: &str) -> Result<Vec<Job>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE executor = $1 AND state = 'processing' ORDER BY id"
        );
        let rows: Vec<JobRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(executor).fetch_all(self.read()).await?;
        rows.into_iter().map(JobRow::into_job).collect()
    }
}

/// The `WHERE` of a filter: constant clauses, values as placeholders.
fn conditions(filter: &JobFilter) -> (String, Vec<Value>) {
    let text = |value: &Option<String>| value.clone().filter(|v| !v.is_empty()).map(Value::Text);
    let state = filter.state.map(|state| Value::Text(state.as_str().to_owned()));
    let equal = [
        ("queue = $", text(&filter.queue)),
        ("state = $", state),
        ("creator_id = $", filter.creator_id.map(Value::Int)),
        ("repository = $", text(&filter.repository)),
        ("executor = $", text(&filter.executor)),
        ("id < $", filter.before.map(Value::Int)),
    ];
    let (mut clauses, mut values) = (vec!["id > 0".to_owned()], Vec::new());
    for (clause, value) in equal {
        if let Some(value) = value {
            values.push(value);
            clauses.push(format!("{clause}{}", values.len()));
        }
    }
    if let Some(text) = filter.text.as_deref().filter(|text| !text.is_empty()) {
        values.push(Value::Text(contains(text)));
        let n = values.len();
        clauses.push(format!(
            "(lower(name) LIKE ${n} ESCAPE '\\' OR lower(repository) LIKE ${n} ESCAPE '\\' \
             OR lower(message) LIKE ${n} ESCAPE '\\' OR id = ${})",
            n + 1
        ));
        values.push(Value::Int(text.trim_start_matches('#').parse().unwrap_or(0)));
    }
    (clauses.join(" AND "), values)
}

/// A `LIKE` pattern for "contains, in any case"; wildcards in `text` stand for themselves.
pub(crate) fn contains(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

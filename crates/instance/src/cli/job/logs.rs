//! `instance job logs`.

use std::io::Write as _;
use std::process::ExitCode;

use reqwest::Method;

use super::follow;
use crate::cli::remote::{Remote, send};
use crate::cli::terminal::Neutral;

/// Print the log of a job. Control sequences are taken out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance job logs 12
  instance job logs 12 --follow
  instance job logs 12 --entry 3 --raw > step.log

With --follow the exit code is the job's, as for `instance job submit --follow`.")]
pub struct Args {
    /// Number of the job.
    id: i64,
    /// Wait for more until the job ends.
    #[arg(long, short, conflicts_with_all = ["entry", "raw"])]
    follow: bool,
    /// Only this log entry, numbered from 1.
    #[arg(long)]
    entry: Option<i64>,
    /// The bytes as they are stored: with the prefixes "stdout: " and "stderr: ", and unfiltered.
    /// Not for a terminal.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    if args.follow {
        return follow::follow(&client, args.id).await;
    }
    let id = args.id.to_string();
    let mut request = client.request(Method::GET, &["jobs", &id, "logs"]);
    if let Some(entry) = args.entry {
        request = request.query(&[("entry", entry)]);
    }
    let mut response = send(request).await?;
    let mut plain = PlainLog::default();
    while let Some(piece) = response.chunk().await? {
        let mut out = std::io::stdout().lock();
        if args.raw {
            out.write_all(&piece)?;
        } else {
            out.write_all(plain.push(&piece).as_bytes())?;
        }
    }
    let rest = plain.finish();
    std::io::stdout().lock().write_all(rest.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Log bytes → text for a terminal: whole lines, without stream prefixes and control sequences.
#[derive(Debug, Default)]
pub(super) struct PlainLog {
    line: Vec<u8>,
    neutral: Neutral,
}

impl PlainLog {
    /// The lines that `bytes` complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        let mut out = String::new();
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.take_line(&mut out);
            }
        }
        out
    }

    /// The last line, when it has no end.
    pub(super) fn finish(&mut self) -> String {
        let mut out = String::new();
        if !self.line.is_empty() {
            self.line.push(b'\n');
            self.take_line(&mut out);
        }
        out
    }

    fn take_line(&mut self, out: &mut String) {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.strip_prefix("stdout: ").or(text.strip_prefix("stderr: ")).unwrap_or(&text);
        out.push_str(&self.neutral.push(text));
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_prefixes_and_sequences_however_they_are_cut() {
        let log = "stdout: a é\nstderr: \u{1b}]52;c;x\u{7}b\nplain\nstdout: last";
        let mut whole = PlainLog::default();
        let text = whole.push(log.as_bytes()) + &whole.finish();
        assert_eq!(text, "a é\nb\nplain\nlast\n");
        let mut bytewise = PlainLog::default();
        let mut pieces: String = log.bytes().map(|b| bytewise.push(&[b])).collect();
        pieces += &bytewise.finish();
        assert_eq!(pieces, text);
    }
}

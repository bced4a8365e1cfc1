//! `instance config edit`.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

use super::Folder;
use crate::problems::Problems;
use crate::site_config::{file, parse, redact};

/// Where the mistakes of the last try stand in the edited text.
const MARK: &str = "//! ";

/// Edit the file in $VISUAL or $EDITOR.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  EDITOR=nano instance config edit --data-dir /var/lib/instance

Secrets are shown as REDACTED; leave them so to keep them. A text with mistakes is not saved: the
editor opens again with the mistakes on top. Leave the text unchanged to give up.")]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = &args.folder.data_dir;
    let stored = file::read_or_create(dir).context("site configuration")?;
    let mut shown = redact::redact(&stored);
    loop {
        let edited = in_editor(&shown)?;
        if edited == shown {
            eprintln!("nothing changed");
            return Ok(ExitCode::SUCCESS);
        }
        let text = without_marks(&edited);
        let text = redact::restore(&text, &stored);
        match parse::parse(&text) {
            Ok(_) => {
                file::replace(dir, &text, &file::etag(&stored))?;
                eprintln!("saved {}", file::path(dir).display());
                return Ok(ExitCode::SUCCESS);
            }
            Err(problems) => {
                eprintln!("not saved:\n{problems}");
                // A script in place of an editor would make the same mistake for ever.
                if !std::io::stdin().is_terminal() {
                    return Ok(ExitCode::FAILURE);
                }
                shown = with_marks(&without_marks(&edited), &problems);
            }
        }
    }
}

/// Runs the editor on a private temporary file and returns what it left.
fn in_editor(text: &str) -> anyhow::Result<String> {
    let mut temporary = tempfile::Builder::new().suffix(".jsonc").tempfile()?;
    temporary.write_all(text.as_bytes())?;
    temporary.flush()?;
    let setting = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
    let setting = setting.filter(|s| !s.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    // Editors are often set with arguments, "code --wait"; no shell is involved.
    let mut words = setting.split_whitespace();
    let program = words.next().unwrap_or("vi");
    run_editor(Command::new(program).args(words), temporary.path())
        .with_context(|| format!("editor {setting:?} (set EDITOR)"))?;
    // Editors may replace the file, so it is read by its path.
    Ok(std::fs::read_to_string(temporary.path())?)
}

fn run_editor(command: &mut Command, path: &Path) -> anyhow::Result<()> {
    let status = command.arg(path).status()?;
    if !status.success() {
        bail!("ended with {status}; nothing was saved");
    }
    Ok(())
}

fn with_marks(text: &str, problems: &Problems) -> String {
    let marks: Vec<String> =
        problems.to_string().lines().map(|line| format!("{MARK}{line}\n")).collect();
    format!("{MARK}NOT SAVED (lines are counted below these remarks):\n{}{text}", marks.concat())
}

fn without_marks(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with(MARK)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::Problem;

    #[test]
    fn marks_come_and_go() {
        let problem = Problem { line: 2, column: 3, path: "a".into(), message: "is bad".into() };
        let marked = with_marks("{\n}", &Problems(vec![problem]));
        assert!(marked.contains("//! line 2, column 3: a: is bad\n{\n}"), "{marked}");
        assert_eq!(without_marks(&marked), "{\n}");
    }
}

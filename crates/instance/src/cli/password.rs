//! Where commands read a password: a file or standard input, never an argument.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A password's source.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// Read the password from standard input.
    #[arg(long)]
    password_stdin: bool,
    /// Read the password from this file.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Source {
    /// The password: the first line.
    ///
    /// # Errors
    /// When the source cannot be read or is empty.
    pub fn read(&self) -> anyhow::Result<String> {
        let text = match &self.password_file {
            Some(file) => from_file(file)?,
            None => {
                let mut text = String::new();
                std::io::stdin().take(64 << 10).read_to_string(&mut text)?;
                text
            }
        };
        let password = text.lines().next().unwrap_or_default().to_owned();
        if password.is_empty() {
            bail!("the password is empty");
        }
        Ok(password)
    }
}

fn from_file(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("password file {}", file.display()))
}

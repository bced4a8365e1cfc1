//! What goes to stdout: tables for people, JSON for programs. Everything else goes to stderr.

use std::io::{self, Write};

use serde::Serialize;

use super::terminal::one_line;

/// Shape of the output.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Output {
    /// Print JSON, as the API answers it.
    #[arg(long)]
    pub json: bool,
}

impl Output {
    /// Prints a list: as JSON, or as a table of `header` and `rows`.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn list<T: Serialize>(
        self,
        value: &T,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> io::Result<()> {
        if self.json { json(value) } else { table(header, rows) }
    }
}

/// Prints a value as indented JSON.
///
/// # Errors
/// When stdout is closed.
pub fn json<T: Serialize>(value: &T) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints a line.
///
/// # Errors
/// When stdout is closed.
pub fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints columns as wide as their widest cell. Cells lose control characters.
///
/// # Errors
/// When stdout is closed.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", layout(header, rows).join("\n"))
}

fn layout(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut lines: Vec<Vec<String>> = vec![header.iter().map(|cell| (*cell).to_owned()).collect()];
    lines.extend(rows.into_iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let print = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<String>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(print).collect()
}

/// A duration as people read it: `850ms`, `12s`, `3m20s`, `2h5m`.
pub fn duration(ms: i64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A number of bytes as people read it: `512 B`, `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len() - 1).find(|unit| count >> (10 * (unit + 1)) == 0);
    let unit = unit.unwrap_or(UNITS.len() - 1);
    if unit == 0 {
        return format!("{count} B");
    }
    let tenths = (u128::from(count) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_harmless() {
        let rows = vec![
            vec!["1".to_owned(), "a\u{1b}[31m\nb".to_owned()],
            vec!["1000".to_owned(), "é".to_owned()],
        ];
        assert_eq!(layout(&["ID", "NAME"], rows), ["ID    NAME", "1     a b", "1000  é"]);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!((duration(850), duration(200_000)), ("850ms".to_owned(), "3m20s".to_owned()));
        assert_eq!(duration(7_500_000), "2h5m");
        assert_eq!((bytes(512), bytes(1_572_864)), ("512 B".to_owned(), "1.5 MiB".to_owned()));
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
    }
}

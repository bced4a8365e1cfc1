//! The table of results.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantity {
    /// The number.
    pub value: f64,
    /// `ms`, `MiB`, `/s` …
    pub unit: &'static str,
}

impl Quantity {
    /// A time.
    pub fn milliseconds(time: Duration) -> Self {
        Self { value: time.as_secs_f64() * 1000.0, unit: "ms" }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits =
            if self.value.abs() < 10.0 { 2 } else { usize::from(self.value.abs() < 100.0) };
        write!(f, "{:.digits$} {}", self.value, self.unit)
    }
}

/// What a number should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Not above this, in the row's unit.
    AtMost(f64),
    /// The number divided by the yardstick is not above this.
    RatioAtMost(f64),
    /// The number divided by the yardstick is not below this.
    RatioAtLeast(f64),
    /// Only shown.
    None,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The number; `None` with the reason in `note` when it could not be measured here.
    pub measured: Option<Quantity>,
    /// What it is held against, measured in the same run.
    pub yardstick: Option<(String, Quantity)>,
    /// What it should be.
    pub goal: Goal,
    /// Anything that a reader must know.
    pub note: String,
}

impl Row {
    /// Measured divided by yardstick.
    pub fn ratio(&self) -> Option<f64> {
        let (_, yardstick) = self.yardstick.as_ref()?;
        Some(self.measured?.value / yardstick.value)
    }

    /// Whether the goal is reached; `None` when there is none, or no measurement.
    pub fn reached(&self) -> Option<bool> {
        match self.goal {
            Goal::AtMost(limit) => Some(self.measured?.value <= limit),
            Goal::RatioAtMost(limit) => Some(self.ratio()? <= limit),
            Goal::RatioAtLeast(limit) => Some(self.ratio()? >= limit),
            Goal::None => None,
        }
    }

    fn goal_text(&self) -> String {
        let unit = self.measured.map_or("", |measured| measured.unit);
        match self.goal {
            Goal::AtMost(limit) => format!("≤ {limit} {unit}"),
            Goal::RatioAtMost(limit) => format!("≤ {limit}×"),
            Goal::RatioAtLeast(limit) => format!("≥ {limit}×"),
            Goal::None => String::new(),
        }
    }

    fn cells(&self) -> [String; 6] {
        let verdict = match self.reached() {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "",
        };
        [
            self.what.clone(),
            self.measured.map_or("NOT MEASURED".to_owned(), |measured| measured.to_string()),
            self.yardstick
                .as_ref()
                .map_or(String::new(), |(name, value)| format!("{value} {name}")),
            self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}×")),
            self.goal_text(),
            format!("{verdict}{}{}", if self.note.is_empty() { "" } else { "  " }, self.note),
        ]
    }
}

/// All rows, in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row, and shows it at once: a whole run takes minutes.
    pub fn add(&mut self, row: Row) {
        eprintln!("  {}", row.cells().join(" | "));
        self.rows.push(row);
    }

    /// The same as data.
    pub fn to_json(&self) -> Value {
        let quantity =
            |quantity: &Quantity| json!({"value": quantity.value, "unit": quantity.unit});
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let yardstick = row.yardstick.as_ref();
                json!({
                    "what": row.what,
                    "measured": row.measured.as_ref().map(quantity),
                    "yardstick": yardstick.map(|(name, value)| json!({"what": name, "measured": quantity(value)})),
                    "ratio": row.ratio(),
                    "goal": row.goal_text(),
                    "reached": row.reached(),
                    "note": row.note,
                })
            })
            .collect();
        json!({ "rows": rows })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "measured", "yardstick", "ratio", "goal", ""].map(str::to_owned);
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: Vec<_> = (0..6)
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for line in lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measured: f64, yardstick: f64, goal: Goal) -> Row {
        Row {
            what: "start".to_owned(),
            measured: Some(Quantity { value: measured, unit: "ms" }),
            yardstick: Some(("bare".to_owned(), Quantity { value: yardstick, unit: "ms" })),
            goal,
            note: String::new(),
        }
    }

    #[test]
    fn a_goal_is_held_against_the_yardstick() {
        assert_eq!(row(120.0, 100.0, Goal::RatioAtMost(1.25)).reached(), Some(true));
        assert_eq!(row(130.0, 100.0, Goal::RatioAtMost(1.25)).reached(), Some(false));
        assert_eq!(row(90.0, 100.0, Goal::RatioAtLeast(1.0)).reached(), Some(false));
        assert_eq!(row(20.0, 100.0, Goal::AtMost(20.0)).reached(), Some(true));
    }

    #[test]
    fn what_was_not_measured_says_so_loudly() {
        let mut row = row(1.0, 1.0, Goal::AtMost(2.0));
        row.measured = None;
        row.note = "npm is missing".to_owned();
        assert_eq!(row.reached(), None);
        let mut report = Report::default();
        report.add(row);
        let table = report.to_string();
        assert!(table.contains("NOT MEASURED") && table.contains("npm is missing"), "{table}");
    }
}

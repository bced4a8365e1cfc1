//! Merges text expositions of many executors into one that a scraper accepts.
//!
//! Executors send their metrics with the heartbeat. Simply put one after the other, two executors
//! would declare the same family twice and the scrape would fail, so samples are grouped by family,
//! and a family whose type disagrees with the first one seen is left out.
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Families by name, each declared once.
#[derive(Debug, Default)]
pub struct Merged {
    families: BTreeMap<String, Family>,
    skipped: usize,
}

#[derive(Debug, Default)]
struct Family {
    help: String,
    kind: String,
    samples: Vec<String>,
}

impl Merged {
    /// Adds one executor's text; every sample gets `sg_instance` and `sg_job` where it lacks them.
    pub fn add(&mut self, executor: &str, text: &str) {
        let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
        let mut helps: BTreeMap<&str, &str> = BTreeMap::new();
        let mut refused: Option<&str> = None;
        for line in text.lines().map(str::trim) {
            if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
            {
                kinds.insert(name, kind.trim());
            } else if let Some((name, help)) =
                line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
            {
                helps.insert(name, help);
            }
        }
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(sample) = Sample::parse(line) else {
                self.skipped += 1;
                continue;
            };
            let name = family_of(sample.name, &kinds);
            let kind = kinds.get(name).copied().unwrap_or("untyped");
            let family = self.families.entry(name.to_owned()).or_insert_with(|| Family {
                help: helps.get(name).copied().unwrap_or_default().to_owned(),
                kind: kind.to_owned(),
                samples: Vec::new(),
            });
            if family.kind == kind {
                family.samples.push(sample.labelled(executor));
            } else if refused != Some(name) {
                refused = Some(name);
                self.skipped += 1;
            }
        }
    }

    /// Lines and families that were left out because they are malformed or clash.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether a family of this name is there; the instance's own come first.
    pub fn remove(&mut self, name: &str) {
        if self.families.remove(name).is_some() {
            self.skipped += 1;
        }
    }

    /// Writes the families after one another.
    pub fn write(&self, out: &mut String) {
        for (name, family) in &self.families {
            if !family.help.is_empty() {
                writeln!(out, "# HELP {name} {}", family.help).expect("strings take all");
            }
            writeln!(out, "# TYPE {name} {}", family.kind).expect("strings take all");
            for sample in &family.samples {
                out.push_str(sample);
                out.push('\n');
            }
        }
    }
}

/// Rewrites OpenMetrics text, which our own library writes, into the older text format, which executors
/// send and every scraper reads: a counter is declared under the name of its samples, and there is no
/// end mark.
pub fn classic(text: &str) -> String {
    let is_counter = |name: &str| {
        text.lines()
            .any(|l| l.strip_prefix("# TYPE ").is_some_and(|l| l == format!("{name} counter")))
    };
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|l| *l != "# EOF" && !l.starts_with("# UNIT ")) {
        let declared = ["# HELP ", "# TYPE "]
            .into_iter()
            .find_map(|p| Some((p, line.strip_prefix(p)?.split_once(' ')?)));
        match declared {
            Some((prefix, (name, rest))) if is_counter(name) => {
                writeln!(out, "{prefix}{name}_total {rest}").expect("strings take all");
            }
            _ => writeln!(out, "{line}").expect("strings take all"),
        }
    }
    out
}

/// Names of the families a text declares.
pub fn declared(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next())
}

/// A histogram's samples have suffixes; the family is what was declared.
fn family_of<'a>(sample: &'a str, kinds: &BTreeMap<&str, &str>) -> &'a str {
    if kinds.contains_key(sample) {
        return sample;
    }
    for suffix in ["_bucket", "_sum", "_count", "_total", "_created"] {
        if let Some(base) = sample.strip_suffix(suffix)
            && kinds.contains_key(base)
        {
            return base;
        }
    }
    sample
}

struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: &'a str,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
        let (name, rest) = line.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => {
                let close = closing_brace(rest)?;
                (rest[..close].trim().trim_end_matches(','), &rest[close + 1..])
            }
            None => ("", rest),
        };
        // An exemplar (OpenMetrics) after the value would be refused by the text format.
        let value = value.split(" # ").next().unwrap_or(value).trim();
        let number = value.split(' ').next()?;
        let readable =
            number.parse::<f64>().is_ok() || matches!(number, "+Inf" | "-Inf" | "Inf" | "NaN");
        (readable && value.split(' ').count() <= 2).then_some(Self { name, labels, value })
    }

    fn labelled(&self, executor: &str) -> String {
        let mut labels = self.labels.to_owned();
        let mut add = |name: &str, value: &str| {
            if !has_label(self.labels, name) {
                let comma = if labels.is_empty() { "" } else { "," };
                write!(labels, r#"{comma}{name}="{}""#, escape(value)).expect("strings take all");
            }
        };
        let registry = label_value(self.labels, "sg_instance") == Some("docker-registry");
        let job = if registry { "sourcegraph-executors-registry" } else { "sourcegraph-executors" };
        add("sg_instance", executor);
        add("sg_job", job);
        format!("{}{{{labels}}} {}", self.name, self.value)
    }
}

/// Position of the brace that ends a label set; braces inside quotes do not count.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn label_value<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let at = label_position(labels, name)?;
    let rest = labels[at + name.len()..].trim_start().strip_prefix('=')?.trim_start();
    rest.strip_prefix('"')?.split('"').next()
}

fn has_label(labels: &str, name: &str) -> bool {
    label_position(labels, name).is_some()
}

/// Where a label's name begins outside of quotes.
fn label_position(labels: &str, name: &str) -> Option<usize> {
    let (mut quoted, mut escaped, mut start) = (false, false, true);
    for (at, c) in labels.char_indices() {
        if start && !quoted && !c.is_whitespace() {
            start = false;
            let rest = &labels[at..];
            if rest.strip_prefix(name).is_some_and(|r| r.trim_start().starts_with('=')) {
                return Some(at);
            }
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => start = true,
            _ => {}
        }
    }
    None
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(texts: &[(&str, &str)]) -> String {
        let mut merged = Merged::default();
        for (executor, text) in texts {
            merged.add(executor, text);
        }
        let mut out = String::new();
        merged.write(&mut out);
        out
    }

    #[test]
    fn one_family_of_two_executors_is_declared_once() {
        let text = "# HELP up Is up.\n# TYPE up gauge\nup 1\n";
        let expected = "# HELP up Is up.\n# TYPE up gauge\n\
            up{sg_instance=\"a\",sg_job=\"sourcegraph-executors\"} 1\n\
            up{sg_instance=\"b\",sg_job=\"sourcegraph-executors\"} 1\n";
        assert_eq!(merged(&[("a", text), ("b", text)]), expected);
    }

    #[test]
    fn a_histogram_stays_one_family() {
        let text = "# TYPE d histogram\nd_bucket{le=\"+Inf\"} 3\nd_sum 1.5\nd_count 3\n";
        let out = merged(&[("a", text)]);
        assert_eq!(out.matches("# TYPE").count(), 1);
        assert!(out.contains("d_bucket{le=\"+Inf\",sg_instance=\"a\""), "{out}");
    }

    #[test]
    fn given_labels_stay_and_the_registry_has_its_own_job() {
        let out = merged(&[("a", "x{sg_instance=\"docker-registry\",p=\"}\"} 1 1700000000000\n")]);
        let line = "x{sg_instance=\"docker-registry\",p=\"}\",\
            sg_job=\"sourcegraph-executors-registry\"} 1 1700000000000\n";
        assert!(out.ends_with(line), "{out}");
    }

    #[test]
    fn our_own_text_becomes_the_older_format() {
        let metrics = crate::metrics::Metrics::new();
        metrics.request("GET", "/x", 200, std::time::Duration::from_millis(1));
        let text = classic(&metrics.encode());
        assert!(text.contains("# TYPE executors_http_requests_total counter\n"), "{text}");
        assert!(text.contains("# TYPE executors_waiting_dequeues gauge\n"), "{text}");
        assert!(!text.contains("# EOF"), "{text}");
    }

    #[test]
    fn a_clash_of_types_and_rubbish_are_left_out() {
        let mut merged = Merged::default();
        merged.add("a", "# TYPE x counter\nx 1\n");
        merged.add("b", "# TYPE x gauge\nx 2\n<script>\ny{unclosed 1\nz one\n");
        let mut out = String::new();
        merged.write(&mut out);
        assert_eq!(merged.skipped(), 4);
        assert!(out.contains("x{sg_instance=\"a\"") && !out.contains("\"b\""), "{out}");
    }

    #[test]
    fn an_executor_name_cannot_break_out_of_its_label() {
        let out = merged(&[("a\"} 1\nevil", "x 1\n")]);
        assert!(out.contains(r#"sg_instance="a\"} 1\nevil""#), "{out}");
    }
}

//! Times, durations and sizes as people read them. Times come in as milliseconds since the Unix epoch.

use std::fmt;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// Text that is HTML already. Only this module and the templates make it, from numbers and escaped text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// Plain text, escaped.
    pub fn text(text: &str) -> Self {
        let escaped = askama::filters::escape(text, askama::filters::Html).map(|e| e.to_string());
        Self(escaped.expect("escaping into a string cannot fail"))
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `3 min ago`, kept current by the page's script.
pub fn ago(time: i64, now: i64) -> Html {
    time_element(time, "ago", &ago_text(seconds_between(time, now)))
}

/// The time that has passed since `start`, kept current by the page's script.
pub fn running_since(start: i64, now: i64) -> Html {
    time_element(start, "since", &duration(seconds_between(start, now).saturating_mul(1000)))
}

/// The time until `end`, counted down by the page's script.
pub fn left(end: i64, now: i64) -> Html {
    time_element(end, "left", &duration(seconds_between(now, end).saturating_mul(1000)))
}

/// A date and time in UTC.
pub fn at(time: i64) -> Html {
    Html(format!("<time datetime=\"{}\">{}</time>", iso(time), readable(time)))
}

fn time_element(time: i64, tick: &str, text: &str) -> Html {
    let (iso, title) = (iso(time), readable(time));
    Html(format!("<time datetime=\"{iso}\" title=\"{title}\" data-tick=\"{tick}\">{text}</time>"))
}

/// Names what a fragment shows: two with the same mark need not be sent one after the other.
pub fn mark(html: &str) -> String {
    hex::encode(&Sha256::digest(without_ticks(html))[..8])
}

/// The HTML without the texts that pass with time, which the page's script keeps current by itself.
fn without_ticks(html: &str) -> String {
    let mut rest = html;
    let mut out = String::with_capacity(html.len());
    while let Some(at) = rest.find(" data-tick=\"") {
        let (before, tick) = rest.split_at(at);
        out.push_str(before);
        rest = tick.find("</time>").map_or("", |end| &tick[end..]);
    }
    out.push_str(rest);
    out
}

/// RFC 3339 with milliseconds.
pub fn iso(time: i64) -> String {
    timestamp(time).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn readable(time: i64) -> String {
    timestamp(time).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn timestamp(time: i64) -> Timestamp {
    Timestamp::from_millisecond(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn seconds_between(from: i64, to: i64) -> i64 {
    to.saturating_sub(from).max(0) / 1000
}

fn ago_text(seconds: i64) -> String {
    match seconds {
        ..2 => "just now".to_owned(),
        2..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Milliseconds as `340 ms`, `4.2 s`, `3 min 5 s`, `2 h 1 min` or `3 d 4 h`.
pub fn duration(ms: i64) -> String {
    let seconds = ms / 1000;
    match ms {
        ..1000 => format!("{} ms", ms.max(0)),
        1000..10_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10_000..60_000 => format!("{seconds} s"),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600_000..86_400_000 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Bytes in binary units.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_friendly() {
        let cases = [
            (-5, "0 ms"),
            (340, "340 ms"),
            (4260, "4.2 s"),
            (59_999, "59 s"),
            (185_000, "3 min 5 s"),
            (7_260_000, "2 h 1 min"),
            (273_600_000, "3 d 4 h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn sizes_are_in_binary_units() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_time_carries_its_full_form_and_future_times_are_now() {
        let then: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let then = then.as_millisecond();
        let now = then + 180_000;
        assert_eq!(
            ago(then, now).to_string(),
            "<time datetime=\"2026-01-02T03:04:05.678Z\" title=\"2026-01-02 03:04:05 UTC\" data-tick=\"ago\">3 min ago</time>"
        );
        assert!(ago(now, then).to_string().contains("just now"));
        let (early, late) = (ago(then, now).to_string(), ago(then, now + 5000).to_string());
        let page = |time: &str| format!("<p>{time} and {time}</p>");
        assert_eq!(mark(&page(&early)), mark(&page(&late)));
        assert_ne!(mark(&page(&early)), mark(&page("x")));
        assert!(without_ticks(&page(&early)).ends_with("</time></p>"));
    }
}

//! Values in the syntax of Go, so that environment files written for stock executors keep working.

use std::time::Duration;

/// A duration as Go's `time.ParseDuration` reads it: `1h30m`, `1.5s`, `300ms`, `0`.
///
/// # Errors
/// A fragment that says what is wrong; negative durations are refused.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration \"{text}\"");
    if text.starts_with('-') {
        return Err(format!("{}: must not be negative", invalid()));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0.0_f64;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("time: missing unit in duration \"{text}\""))?;
        let number: f64 = rest[..number_end].parse().map_err(|_| invalid())?;
        rest = &rest[number_end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            unit => return Err(format!("time: unknown unit \"{unit}\" in duration \"{text}\"")),
        };
        nanos += number * factor;
        rest = &rest[unit_end..];
    }
    if nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// A duration as Go prints it: `30m0s`, `1h0m0s`, `1.5s`, `250ms`.
pub fn format_duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return match duration.as_nanos() {
            0 => "0s".to_owned(),
            _ => format!("{}ms", duration.as_millis()),
        };
    }
    let seconds = duration.as_secs();
    let fraction = match duration.subsec_millis() {
        0 => String::new(),
        millis => format!(".{millis:03}").trim_end_matches('0').to_owned(),
    };
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}{fraction}s"),
        (0, _) => format!("{minutes}m{rest}{fraction}s"),
        _ => format!("{hours}h{minutes}m{rest}{fraction}s"),
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
///
/// # Errors
/// Go's message.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

/// A size in bytes as stock executors read it: digits and an optional unit `B`, `K[B]` … `E[B]` of
/// either case, in powers of 1024.
///
/// # Errors
/// A fragment that says what is wrong.
pub fn data_size(text: &str) -> Result<u64, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits_end]
        .parse()
        .map_err(|_| "invalid syntax, expected a size such as 512M or 12G".to_owned())?;
    let shift = match text[digits_end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        "p" | "pb" => 50,
        "e" | "eb" => 60,
        unit => return Err(format!("unknown unit \"{unit}\", expected B, K, M, G, T, P or E")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "value out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases =
            [("0", 0), ("1s", 1000), ("1h30m", 5_400_000), ("1.5s", 1500), ("5m0s", 300_000)];
        for (text, millis) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1d", "-1s", "1 s", "1h30", "999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let cases = [(0, "0s"), (250, "250ms"), (1500, "1.5s"), (1_800_000, "30m0s")];
        for (millis, text) in cases {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(format_duration(Duration::from_secs(3_661)), "1h1m1s");
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [("12G", 12 << 30), ("512MB", 512 << 20), ("7", 7), ("1 kb", 1024), ("0", 0)];
        for (text, bytes) in cases {
            assert_eq!(data_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "1.5G", "12Q", "-1", "99999999999E"] {
            assert!(data_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans_are_go_booleans() {
        assert_eq!(boolean("t"), Ok(true));
        assert_eq!(boolean("FALSE"), Ok(false));
        assert!(boolean("yes").is_err());
    }
}

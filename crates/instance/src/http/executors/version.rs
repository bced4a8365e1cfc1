//! Which job format an executor's version reads.

use protocol::JobVersion;

/// First build day of executors that read v2.
const FIRST_V2_DAY: &str = "2022-11-24";

/// The format for a version as sent with dequeue. `Err` = neither a version nor a build string.
pub(super) fn job_version(version: &str) -> Result<JobVersion, InvalidVersion> {
    if version.is_empty() {
        return Ok(JobVersion::V1);
    }
    if version == "dev" || version == "0.0.0+dev" {
        return Ok(JobVersion::V2);
    }
    let v2 = match build_day(version) {
        Some(day) => day >= FIRST_V2_DAY,
        None => parse(version).ok_or(InvalidVersion)? >= parse("4.3.0-0").ok_or(InvalidVersion)?,
    };
    Ok(if v2 { JobVersion::V2 } else { JobVersion::V1 })
}

/// A version text that cannot be compared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidVersion;

/// Semantic version as the original's parser takes it: a leading `v` and missing parts are fine.
fn parse(text: &str) -> Option<semver::Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let missing = 3_usize.checked_sub(numbers.split('.').count())?;
    semver::Version::parse(&format!("{numbers}{}{rest}", ".0".repeat(missing))).ok()
}

/// The day in a build string: `<digits>_<YYYY-MM-DD>_[<n>.<n>][-]<7+ of a-z0-9>[_patch]` at its end,
/// for example `5.1_231128_2023-06-27_5.0-7ac9ba347103`.
fn build_day(version: &str) -> Option<&str> {
    let version = version.strip_suffix("_patch").unwrap_or(version);
    let mut parts = version.rsplitn(3, '_');
    let (hash, day, digits) = (parts.next()?, parts.next()?, parts.next()?);
    let is_day = day.len() == 10
        && day.bytes().enumerate().all(|(i, b)| match i {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    let release_end = hash.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(0);
    let (release, rest) = hash.split_at(release_end);
    let rest = if release.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.contains('.')) {
        rest
    } else {
        hash
    };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    let is_hash =
        rest.len() >= 7 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let has_number = digits.ends_with(|c: char| c.is_ascii_digit());
    (is_day && is_hash && has_number).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_the_original_decides() {
        let v2 = [
            "dev",
            "0.0.0+dev",
            "4.3.0-0",
            "4.3.0",
            "5.1.0",
            "v5.2",
            "0.1.0_x_1_2024-01-01_abcdef0",
            "169135_2022-11-24_a2b3c4d5e6f7",
            "5.1_231128_2023-06-27_5.0-7ac9ba347103",
            "169135_2022-11-25_4.2-a2b3c4d5e6f7_patch",
        ];
        for version in v2 {
            assert_eq!(job_version(version), Ok(JobVersion::V2), "{version}");
        }
        let v1 = ["", "4.2.0", "4.2.9", "3.43.12", "169135_2022-11-23_a2b3c4d5e6f7", "0.1.0"];
        for version in v1 {
            assert_eq!(job_version(version), Ok(JobVersion::V1), "{version}");
        }
        for version in ["abc", "1.2.3.4", "169135_2022-11-24", "5.x"] {
            assert_eq!(job_version(version), Err(InvalidVersion), "{version}");
        }
    }
}

//! Does an executor's version fit the instance's? The rule of the original, so that mixed sites see what
//! they are used to: one minor version of distance is fine, and so are 35 days between insiders builds.

use jiff::civil::Date;
use semver::Version;

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// The executor is too old for the instance.
    Outdated,
    /// They fit.
    UpToDate,
    /// The executor is too new for the instance.
    VersionAhead,
}

/// A version that is neither a development build, an insiders build nor semantic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse version {0:?}: invalid semantic version")]
pub struct InvalidVersion(pub String);

/// Days that two insiders builds may be apart.
const INSIDERS_DAYS: i64 = 35;

/// Compares an *active* executor with the instance. `None` when they cannot be compared: either is a
/// development build, or exactly one is an insiders build.
///
/// # Errors
/// When one of the two is not a version.
pub fn compatibility(
    instance: &str,
    executor: &str,
) -> Result<Option<Compatibility>, InvalidVersion> {
    if is_dev(instance) || is_dev(executor) {
        return Ok(None);
    }
    match (insiders_date(instance), insiders_date(executor)) {
        (Some(instance), Some(executor)) => Ok(Some(compare_dates(instance, executor))),
        (None, None) => Ok(Some(compare_versions(&semantic(instance)?, &semantic(executor)?))),
        _ => Ok(None),
    }
}

fn is_dev(version: &str) -> bool {
    matches!(version, "dev" | "0.0.0+dev")
}

fn compare_dates(instance: Date, executor: Date) -> Compatibility {
    let days = (executor - instance).get_days();
    match i64::from(days) {
        days if days > INSIDERS_DAYS => Compatibility::VersionAhead,
        days if days < -INSIDERS_DAYS => Compatibility::Outdated,
        _ => Compatibility::UpToDate,
    }
}

fn compare_versions(instance: &Version, executor: &Version) -> Compatibility {
    let bumped = |v: &Version| Version::new(v.major, v.minor + 1, 0);
    if instance.cmp_precedence(&bumped(executor)).is_gt() {
        Compatibility::Outdated
    } else if executor.cmp_precedence(&bumped(instance)).is_gt() {
        Compatibility::VersionAhead
    } else {
        Compatibility::UpToDate
    }
}

/// The date of an insiders build: `^[\w-]+_(\d{4}-\d{2}-\d{2})_(\d+\.\d+-)?\w+`.
fn insiders_date(version: &str) -> Option<Date> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    version.match_indices('_').find_map(|(at, _)| {
        let prefix = &version[..at];
        let (date, after) = version[at + 1..].split_once('_')?;
        let shaped = !prefix.is_empty()
            && prefix.chars().all(|c| is_word(c) || c == '-')
            && date.len() == 10
            && after.starts_with(is_word);
        shaped.then(|| date.parse().ok())?
    })
}

/// A semantic version, a `v` before it and missing minor or patch parts allowed. A release-branch build
/// (`5.1_231128_2023-06-27_5.0-7ac9ba347103`) counts as the version it starts with.
fn semantic(text: &str) -> Result<Version, InvalidVersion> {
    let invalid = || InvalidVersion(text.to_owned());
    let version = text.split('_').next().unwrap_or(text);
    let version = version.strip_prefix('v').unwrap_or(version);
    let (version, build) = version.split_once('+').unwrap_or((version, ""));
    let (numbers, pre) = version.split_once('-').unwrap_or((version, ""));
    let mut parts = [0_u64; 3];
    let mut given = numbers.split('.');
    for (index, part) in parts.iter_mut().enumerate() {
        match given.next() {
            Some(number) => *part = number.parse().map_err(|_| invalid())?,
            None if index > 0 => break,
            None => return Err(invalid()),
        }
    }
    if given.next().is_some() {
        return Err(invalid());
    }
    let [major, minor, patch] = parts;
    Ok(Version {
        major,
        minor,
        patch,
        pre: semver::Prerelease::new(pre).map_err(|_| invalid())?,
        build: semver::BuildMetadata::new(build).map_err(|_| invalid())?,
    })
}

#[cfg(test)]
mod tests {
    use super::Compatibility::{Outdated, UpToDate, VersionAhead};
    use super::*;

    #[test]
    fn every_row_of_the_rule() {
        let insiders = |date: &str| format!("169135_{date}_5.0-7ac9ba347103");
        let rows = [
            ("3.43.0", "3.42.0", Some(UpToDate)),
            ("3.43.0", "3.40.0", Some(Outdated)),
            ("3.42.0", "3.43.0", Some(UpToDate)),
            ("5.0.3", "5.1_231128_2023-06-27_5.0-7ac9ba347103", Some(UpToDate)),
            ("3.43.0", "4.0.0", Some(VersionAhead)),
            ("4.0.0", "3.43.0", Some(Outdated)),
            ("3.40.0", "3.43.0", Some(VersionAhead)),
            ("3.43.12", "3.43.0", Some(UpToDate)),
            ("3.43.0", "3.43.12", Some(UpToDate)),
            ("3.43.0", "3.43.0", Some(UpToDate)),
            ("5.1.3", "5.1.3-rc.1", Some(UpToDate)),
            ("5.1.3", "5.1", Some(UpToDate)),
            ("3.44.0", "3.43.9", Some(UpToDate)),
            ("3.44.1", "3.43.9", Some(Outdated)),
            ("3.43.9", "3.44.1", Some(VersionAhead)),
            ("v5.1.0", "5.1.0+build.7", Some(UpToDate)),
            ("dev", "3.40.0", None),
            ("3.40.0", "dev", None),
            ("0.0.0+dev", "3.40.0", None),
            ("dev", "not a version", None),
        ];
        for (instance, executor, expected) in rows {
            assert_eq!(
                compatibility(instance, executor),
                Ok(expected),
                "instance {instance}, executor {executor}"
            );
        }
        let dates = [
            ("2022-07-25", "2022-06-10", Some(Outdated)),
            ("2022-09-15", "2022-10-30", Some(VersionAhead)),
            ("2022-07-25", "2022-06-20", Some(UpToDate)),
            ("2022-07-25", "2022-08-29", Some(UpToDate)),
        ];
        for (instance, executor, expected) in dates {
            let verdict = compatibility(&insiders(instance), &insiders(executor));
            assert_eq!(verdict, Ok(expected), "instance {instance}, executor {executor}");
        }
        assert_eq!(compatibility(&insiders("2022-07-25"), "3.43.0"), Ok(None));
        assert_eq!(compatibility("3.43.0", &insiders("2022-07-25")), Ok(None));
        assert_eq!(compatibility(&insiders("2022-07-25"), "dev"), Ok(None));
    }

    #[test]
    fn what_is_no_version_is_said_so() {
        for bad in ["", "latest", "1.2.3.4", "5.x"] {
            assert_eq!(compatibility("5.1.0", bad), Err(InvalidVersion(bad.to_owned())));
        }
    }
}

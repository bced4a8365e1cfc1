//! Versions of runc with known ways out of a container.

/// Defect, and the first version of each line of releases without it; lines that are not named have it.
const KNOWN: [(&str, &[[u32; 3]]); 2] = [
    (
        "CVE-2024-21626: a working directory that is a leaked descriptor leads to the host",
        &[[1, 1, 12]],
    ),
    (
        "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881: links in the way of /dev/null, /dev/console and /proc lead to the host",
        &[[1, 2, 8], [1, 3, 3], [1, 4, 0]],
    ),
];

/// What is known of a version such as `1.1.5+ds1`. A distribution may have mended it without a new number.
pub(super) fn defects(version: &str) -> Vec<&'static str> {
    let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor), Some(patch)) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return Vec::new();
    };
    let found = [major, minor, patch];
    let mended = |first: &[[u32; 3]]| {
        let same_line = first.iter().find(|first| first[..2] == found[..2]);
        same_line.or(first.last()).is_some_and(|first| found >= *first)
    };
    KNOWN.iter().filter(|(_, first)| !mended(first)).map(|(defect, _)| *defect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_releases_has_its_own_first_good_one() {
        let count = |version| defects(version).len();
        assert_eq!(["1.0.3", "1.1.5+ds1", "1.1.11"].map(count), [2, 2, 2]);
        assert_eq!(["1.1.12", "1.1.15", "1.2.7", "1.3.2"].map(count), [1, 1, 1, 1]);
        assert_eq!(["1.2.8", "1.3.3", "1.4.0", "2.0.0"].map(count), [0, 0, 0, 0]);
        assert_eq!(count("unknown"), 0, "nothing is known of it");
    }
}

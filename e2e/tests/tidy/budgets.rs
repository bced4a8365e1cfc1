//! Size budgets: a file that outgrows them holds two ideas. (Functions: `clippy::too_many_lines`.)

use crate::repository::rust_files;

const FILE_LINES: usize = 500;
const MEDIAN_LINES: usize = 150;

#[test]
fn files_stay_within_their_budget() {
    let too_long: Vec<_> = rust_files()
        .iter()
        .filter(|file| !file.is_test())
        .map(|file| (file.without_tests().lines().count(), file.path.clone()))
        .filter(|(lines, _)| *lines > FILE_LINES)
        .collect();
    assert!(too_long.is_empty(), "over {FILE_LINES} lines without tests: {too_long:?}");
}

#[test]
fn the_median_file_is_small() {
    let files = rust_files();
    let files = files.iter().filter(|file| !file.is_test());
    let mut lines: Vec<_> = files.map(|file| file.without_tests().lines().count()).collect();
    lines.sort_unstable();
    let median = lines[lines.len() / 2];
    assert!(median <= MEDIAN_LINES, "the median file has {median} lines, over {MEDIAN_LINES}");
}

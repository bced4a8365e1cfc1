//! What the host says on the kernel's command line.

use std::fs;

use crate::failure::{Context, Result};

/// What follows `prefix` in the first word that begins with it.
pub fn value(prefix: &str) -> Result<Option<String>> {
    let line = fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    Ok(find(&line, prefix).map(str::to_owned))
}

fn find<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_follows_its_name() {
        let line = "quiet executors.channel=vsock executors.disks=a,b\n";
        assert_eq!(find(line, "executors.disks="), Some("a,b"));
        assert_eq!(find(line, "executors.other="), None);
    }
}

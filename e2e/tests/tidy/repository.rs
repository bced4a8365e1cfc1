//! The files of the repository, as git lists them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file of the repository.
pub struct File {
    /// Path from the root of the repository.
    pub path: String,
    pub text: String,
}

impl File {
    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().expect("rsplit yields at least one part");
        self.path.split('/').any(|part| matches!(part, "tests" | "benches" | "fuzz" | "e2e"))
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }

    /// The text without the inline test modules. They stand at the end of a file, by habit and by this rule.
    pub fn without_tests(&self) -> &str {
        self.text.find("\n#[cfg(test)]\n").map_or(&self.text, |at| &self.text[..at])
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e/ is in the root").to_owned()
}

/// Every tracked text file.
pub fn files() -> Vec<File> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let files: Vec<_> = paths
        .split_terminator('\0')
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(path)).ok()?; // binary, or just removed
            Some(File { path: path.to_owned(), text })
        })
        .collect();
    assert!(files.len() > 20, "git listed only {} files", files.len());
    files
}

/// Every Rust file.
pub fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

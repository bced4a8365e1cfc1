//! Documents name things that exist.

use crate::repository::{File, files, root};

/// The words of a document between backquotes, outside code blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            words.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    words
}

/// Whether a quoted word claims to be a path of this repository.
fn is_path(word: &str) -> bool {
    let tops =
        ["crates/", "e2e/", "benches/", "images/", "docs/", "scripts/", "fuzz/", ".ci/", "./"];
    tops.iter().any(|top| word.starts_with(top)) && !word.contains([' ', '*', '<', '{', '…'])
}

fn documents() -> Vec<File> {
    files().into_iter().filter(|file| file.path.ends_with(".md")).collect()
}

#[test]
fn every_path_in_a_document_exists() {
    let mut missing = Vec::new();
    for document in documents() {
        for word in quoted(&document.text).iter().filter(|word| is_path(word)) {
            if !root().join(word).exists() {
                missing.push(format!("{}: `{word}`", document.path));
            }
        }
    }
    assert!(missing.is_empty(), "documents name paths that do not exist:\n{}", missing.join("\n"));
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let folder = root().join(&document.path).parent().expect("a file has a folder").to_owned();
        for link in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().expect("split yields at least one part");
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !folder.join(target).exists() {
                broken.push(format!("{}: {link}", document.path));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn decisions_are_numbered_without_gaps_and_say_why() {
    let mut records: Vec<_> =
        documents().into_iter().filter(|file| file.path.starts_with("docs/adr/")).collect();
    records.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!records.is_empty(), "docs/adr/ is empty");
    for (index, record) in records.iter().enumerate() {
        let number = format!("docs/adr/{:04}-", index + 1);
        assert!(record.path.starts_with(&number), "{} should start with {number}", record.path);
        for heading in
            ["\n## Decision\n", "\n## Alternatives\n", "\n## What would change our mind\n"]
        {
            assert!(record.text.contains(heading), "{} lacks {heading:?}", record.path);
        }
    }
}

#[test]
fn the_changelog_has_a_section_for_what_comes_next() {
    let text = std::fs::read_to_string(root().join("CHANGELOG.md")).expect("CHANGELOG.md");
    assert!(text.contains("\n## Unreleased\n"), "CHANGELOG.md lacks `## Unreleased`");
}

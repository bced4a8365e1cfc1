//! Which crate may know which. A new edge needs an entry here and an ADR that says why.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Workspace crate → the workspace crates that it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("guest-wire", &[]),
    ("store", &["protocol"]),
    ("instance", &["protocol", "store"]),
    ("guest", &["guest-wire"]),
    ("microvm", &["guest-wire"]),
    ("executor", &["protocol", "microvm"]),
    // The two below drive the real programs from outside and know only what crosses HTTP.
    ("e2e", &["protocol"]),
    ("benches", &["protocol", "e2e"]),
];

/// Workspace crate → libraries that it must never know, whatever is convenient.
const NEVER: &[(&str, &[&str])] = &[
    ("protocol", &["tokio", "axum", "reqwest", "sqlx", "hyper"]),
    ("guest-wire", &["tokio", "nix", "libc", "reqwest"]),
    ("guest", &["tokio", "reqwest", "hyper", "futures-util"]),
    ("store", &["axum", "reqwest", "hyper", "askama"]),
    ("instance", &["sqlx"]),
    ("microvm", &["axum", "sqlx"]),
    ("executor", &["axum", "sqlx", "askama"]),
];

/// Libraries that must not be linked by anything, directly or not (see `deny.toml` for the reasons).
const BANNED: &[&str] =
    &["openssl-sys", "native-tls", "aws-lc-sys", "aws-lc-rs", "serde_yaml", "serde_yml"];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Workspace crate → what it names under `[dependencies]` (dev- and build-dependencies are free).
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    packages
        .iter()
        .map(|package| {
            let normal = package["dependencies"].as_array().expect("a list of dependencies");
            let normal = normal.iter().filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), normal.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

#[test]
fn crates_know_only_whom_they_may() {
    let dependencies = dependencies();
    let members: BTreeSet<&str> = dependencies.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, listed, "every workspace crate has a line in EDGES");

    for (name, allowed) in EDGES {
        let known = dependencies[*name].iter().filter(|known| members.contains(known.as_str()));
        let forbidden: Vec<_> = known.filter(|known| !allowed.contains(&known.as_str())).collect();
        assert!(forbidden.is_empty(), "{name} must not depend on {forbidden:?}");
    }
}

#[test]
fn crates_never_know_what_is_not_theirs() {
    let dependencies = dependencies();
    for (name, never) in NEVER {
        let found: Vec<_> =
            never.iter().filter(|library| dependencies[*name].contains(**library)).collect();
        assert!(found.is_empty(), "{name} must not depend on {found:?}");
    }
}

#[test]
fn banned_libraries_are_not_in_the_lock_file() {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock = std::fs::read_to_string(lock).expect("Cargo.lock is in the repository");
    let found: Vec<_> =
        BANNED.iter().filter(|name| lock.contains(&format!("name = \"{name}\"\n"))).collect();
    assert!(found.is_empty(), "Cargo.lock contains {found:?}");
}

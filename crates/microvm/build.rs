//! Builds the guest as a static program and lets the crate embed it: whoever has an executor has the guest
//! that belongs to it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// glibc links statically as well; so no second target has to be installed on the machine that builds.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate has a parent");
    for path in ["guest/src", "guest/Cargo.toml", "guest-wire/src", "guest-wire/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", crates.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let target_dir = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("guest");
    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    cargo
        .current_dir(crates)
        .args(["build", "--locked", "--package", "guest", "--profile", "guest", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        // Set by `cargo clippy` and the like for the outer build; the guest is built, not checked.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS");
    let status = cargo.status().expect("cargo runs: it is running this");
    assert!(status.success(), "the guest does not build: {status}");
    let guest = target_dir.join(TARGET).join("guest").join("guest");
    println!("cargo::rustc-env=GUEST_BINARY={}", guest.display());
}

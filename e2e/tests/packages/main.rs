//! The Debian packages on a clean root file system: installed, used, removed; once while nothing runs in it, as
//! images are made, and once under systemd, as operators do.

mod root;
mod services;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use e2e::folder::Folder;
use e2e::http::free_port;
use e2e::images;
use e2e::program::{Program, binary, run_command};
use e2e::wait::until_true;
use e2e::world::PATIENCE;

use crate::root::Root;

/// Both packages, of the programs under test without their debugging information.
fn build(folder: &Folder) -> Vec<PathBuf> {
    let (bin, out) = (folder.sub("bin"), folder.sub("packages"));
    for name in ["instance", "executor"] {
        run_command(Command::new("strip").arg("-o").arg(bin.join(name)).arg(binary(name)));
    }
    let mut build = Command::new(images::repository().join("deploy/deb/build"));
    run_command(build.arg(&out).env("EXECUTORS_BIN_DIR", &bin));
    let packages = std::fs::read_dir(&out).expect("it was made");
    packages.map(|entry| entry.expect("it can be read").path()).collect()
}

/// As systemd says of each unit, and how much of the machine a unit may reach, in tenths of its scale.
fn units_are_clean(root: &Root) {
    for (unit, exposure) in
        [("instance.service", 20), ("executor.service", 65), ("executor@second.service", 65)]
    {
        let mut verify = root.command("systemd-analyze");
        let said = verify.args(["verify", "--man=no", unit]).output().expect("it can be run");
        let said = [said.stdout, said.stderr].concat();
        assert_eq!(String::from_utf8_lossy(&said), "", "{unit}");
        let threshold = format!("--threshold={exposure}");
        root.run("systemd-analyze", &["security", "--offline=true", &threshold, unit]);
    }
}

/// What `executor validate` printed has no error.
fn is_green(report: &str) {
    assert!(report.contains("All checks passed!"), "{report}");
    assert!(!report.lines().any(|line| line.starts_with("error")), "{report}");
}

/// What a newcomer does first: an instance, a token, the kernel, and a check of everything.
async fn programs_work(root: &Root, folder: &Folder) {
    let (port, data) = (free_port(), "/var/lib/executors-instance");
    let mut generate = root.command("instance");
    generate.args(["config", "generate-token", "--save"]).env("INSTANCE_DATA_DIR", data);
    let token = run_command(&mut generate).trim().to_owned();
    let mut serve = root.command("instance");
    serve.args(["serve", "--listen", &format!("127.0.0.1:{port}")]).env("INSTANCE_DATA_DIR", data);
    let mut instance = Program::start("instance", serve, folder.path());
    let ready = format!("http://127.0.0.1:{port}/readyz");
    until_true("the instance is ready", PATIENCE, async || {
        e2e::http::client()
            .get(&ready)
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    let kernel = root.path.join("opt/vm-image");
    run_command(Command::new("cp").arg("-a").arg(images::kernel()).arg(&kernel));
    let mut validate = root.command("executor");
    validate
        .arg("validate")
        .env("EXECUTOR_FRONTEND_URL", format!("http://127.0.0.1:{port}"))
        .env("EXECUTOR_FRONTEND_PASSWORD", &token)
        .env("EXECUTOR_QUEUE_NAME", "jobs")
        .env("EXECUTOR_STATE_DIR", "/var/lib/executors-executor")
        .env("EXECUTOR_KERNEL_DIR", "/opt/vm-image")
        .env("EXECUTOR_ACCELERATION", "tcg");
    let report = run_command(&mut validate);
    is_green(&report);
    instance.kill();
    std::fs::remove_dir_all(&kernel).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_install_work_and_leave_only_data() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: a system in a folder needs root");
        return;
    }
    let folder = Folder::new();
    let packages = build(&folder);
    assert_eq!(packages.len(), 2, "{packages:?}");
    let root = Root::new(folder.path());
    let mut names = Vec::new();
    for package in &packages {
        let name = format!("/var/cache/{}", package.file_name().unwrap().to_str().unwrap());
        std::fs::copy(package, root.path.join(&name[1..])).unwrap();
        names.push(name);
    }
    install_dependencies(&root, &packages);
    let before = root.files();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    root.run("apt-get", &[&APT_INSTALL[..], &names].concat());
    units_are_clean(&root);
    let settings = root.path.join("etc/executors/executor.env");
    let mode = std::os::unix::fs::PermissionsExt::mode(&settings.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "the settings hold a secret");
    programs_work(&root, &folder).await;
    root.run("apt-get", &APT_REMOVE);
    only_data_is_left(&root, &before);
    root.run("apt-get", &APT_PURGE);
    no_data_is_left(&root);

    let Some(booted) = root.boot(folder.path()).await else { return };
    let before = root.files();
    booted.run("apt-get", &[&APT_INSTALL[..], &names].concat());
    services::start(&root, &booted).await;
    services::outlive_an_upgrade(&booted, &names).await;
    booted.run("apt-get", &APT_REMOVE);
    for unit in services::UNITS {
        assert_eq!(booted.property(unit, "ActiveState"), "inactive", "{unit}");
    }
    only_data_is_left(&root, &before);
    booted.run("apt-get", &APT_PURGE);
    no_data_is_left(&root);
    booted.stop().await;
}

const APT_INSTALL: [&str; 6] =
    ["install", "-qq", "-y", "--no-install-recommends", "-o", "DPkg::Options::=--force-unsafe-io"];
const APT_REMOVE: [&str; 5] = ["remove", "-qq", "-y", "executors-instance", "executors-executor"];
const APT_PURGE: [&str; 5] = ["purge", "-qq", "-y", "executors-instance", "executors-executor"];

/// Dependencies first: what stays behind later must be the packages' own.
fn install_dependencies(root: &Root, packages: &[PathBuf]) {
    root.run("apt-get", &["update", "-qq"]);
    let depends: String = packages
        .iter()
        .map(|package| run_command(Command::new("dpkg-deb").arg("-f").arg(package).arg("Depends")))
        .collect::<Vec<_>>()
        .join(",");
    let mut depends: Vec<&str> =
        depends.split([',', '\n']).filter_map(|name| name.split_whitespace().next()).collect();
    // The hypervisor that is recommended, and what the units refer to.
    depends.extend(["qemu-system-x86", "systemd"]);
    root.run("apt-get", &[&APT_INSTALL[..], &depends].concat());
}

fn only_data_is_left(root: &Root, before: &BTreeSet<String>) {
    let ours = |path: &&String| {
        let kept = [
            "/tmp",
            "/run",
            "/etc/executors",
            "/var/lib/executors-",
            "/opt",
            "/etc/passwd",
            "/etc/group",
            "/etc/shadow",
            "/etc/gshadow",
            "/etc/subuid",
            "/etc/subgid",
            "/dev",
            "/root",
        ];
        !kept.iter().any(|prefix| path.starts_with(prefix))
    };
    let after = root.files();
    let left: Vec<&String> = after.difference(before).filter(ours).collect();
    assert_eq!(left, [] as [&String; 0], "removal leaves settings and data, nothing else");
    for kept in ["var/lib/executors-instance", "var/lib/executors-executor", "etc/executors"] {
        assert!(root.path.join(kept).exists(), "removal takes {kept}");
    }
}

fn no_data_is_left(root: &Root) {
    assert!(!root.path.join("etc/executors").exists(), "settings outlive a purge");
    let left = root.files();
    let left: Vec<&String> =
        left.iter().filter(|path| path.starts_with("/var/lib/executors")).collect();
    assert_eq!(left, [] as [&String; 0], "data outlives a purge");
}

//! The Debian packages on a clean root file system: installed, used, removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::folder::Folder;
use e2e::http::free_port;
use e2e::images;
use e2e::program::{Program, binary, run_command};
use e2e::wait::until_true;
use e2e::world::PATIENCE;

/// A Debian system in a folder.
struct Root {
    path: PathBuf,
}

/// Enters the system in a mount namespace of its own: what is mounted goes with the command, and nobody who
/// removes the folder can reach the machine's own devices through it.
const ENTER: &str = r#"
for name in proc sys dev; do mount --rbind "/$name" "$ROOT/$name"; done
exec chroot "$ROOT" "$@"
"#;

impl Root {
    /// A fresh one with apt and nothing else.
    fn new(folder: &Path) -> Self {
        let path = folder.join("root");
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=apt", "--dpkgopt=force-unsafe-io", "bookworm"]).arg(&path);
        if let Some(mirror) = std::env::var_os("EXECUTORS_DEBIAN_MIRROR") {
            make.arg(mirror);
        }
        run_command(&mut make);
        let root = Self { path };
        // Packages come from where this machine gets them.
        for name in ["resolv.conf", "hosts"] {
            std::fs::copy(Path::new("/etc").join(name), root.path.join("etc").join(name))
                .expect("the root is writable");
        }
        root
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", ENTER, "sh", program]);
        command
            .env("ROOT", &self.path)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        run_command(self.command(program).args(arguments))
    }

    /// Every file of the system, without what is mounted and what package managers and logs keep.
    fn files(&self) -> BTreeSet<String> {
        let listed = self.run(
            "find",
            &[
                "/",
                "-xdev",
                "-path",
                "/var/lib/dpkg",
                "-prune",
                "-o",
                "-path",
                "/var/cache",
                "-prune",
                "-o",
                "-path",
                "/var/log",
                "-prune",
                "-o",
                "-path",
                "/var/lib/apt",
                "-prune",
                "-o",
                "-print",
            ],
        );
        listed.lines().map(str::to_owned).collect()
    }
}

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

/// As systemd says, if it is there.
fn units_are_clean(root: &Root) {
    if Command::new("systemd-analyze").arg("--version").output().is_ok() {
        let mut verify = Command::new("systemd-analyze");
        verify.arg("verify").arg("--man=no").arg(format!("--root={}", root.path.display()));
        let units = ["instance.service", "executor.service"];
        let verified = verify.args(units).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let ours: Vec<&str> =
            said.lines().filter(|line| units.iter().any(|unit| line.contains(unit))).collect();
        assert_eq!(ours, [] as [&str; 0], "{said}");
    }
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
    assert!(report.contains("All checks passed!") && !report.contains("error "), "{report}");
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
        let name = format!("/tmp/{}", package.file_name().unwrap().to_str().unwrap());
        std::fs::copy(package, root.path.join(&name[1..])).unwrap();
        names.push(name);
    }
    root.run("apt-get", &["update", "-qq"]);
    // Dependencies first: what stays behind later must be the packages' own.
    let depends: String = packages
        .iter()
        .map(|package| run_command(Command::new("dpkg-deb").arg("-f").arg(package).arg("Depends")))
        .collect::<Vec<_>>()
        .join(",");
    let mut depends: Vec<&str> =
        depends.split([',', '\n']).filter_map(|name| name.split_whitespace().next()).collect();
    // The hypervisor that is recommended, and what the units refer to.
    depends.extend(["qemu-system-x86", "systemd"]);
    let apt = [
        "install",
        "-qq",
        "-y",
        "--no-install-recommends",
        "-o",
        "DPkg::Options::=--force-unsafe-io",
    ];
    root.run("apt-get", &[&apt[..], &depends].concat());
    let before = root.files();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    root.run("apt-get", &[&apt[..], &names].concat());

    units_are_clean(&root);
    let settings = root.path.join("etc/executors/executor.env");
    let mode = std::os::unix::fs::PermissionsExt::mode(&settings.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "the settings hold a secret");

    programs_work(&root, &folder).await;

    root.run("apt-get", &["remove", "-qq", "-y", "executors-instance", "executors-executor"]);
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
    let left: Vec<&String> = after.difference(&before).filter(ours).collect();
    assert_eq!(left, [] as [&String; 0], "removal leaves settings and data, nothing else");
    assert!(root.path.join("var/lib/executors-instance").exists(), "data stays");
    root.run("apt-get", &["purge", "-qq", "-y", "executors-instance", "executors-executor"]);
    for gone in ["etc/executors", "var/lib/executors-instance", "var/lib/executors-executor"] {
        assert!(!root.path.join(gone).exists(), "{gone} outlives a purge");
    }
}

//! A machine whose `/dev/kvm` opens, and under which no guest runs: `executor validate` says so and names the cure,
//! and `executor run` falls back to software emulation only where the operator left the choice.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use e2e::executor::Executor;
use e2e::world::{PATIENCE, World};

const LIE: &str = "/dev/kvm opens, but no guest runs under it";

struct Machine {
    world: World,
    /// Programs that say that they are Firecracker and its jailer, and do no more.
    programs: [PathBuf; 2],
}

impl Machine {
    /// `None`, with a word about it, where KVM works or is not there at all.
    async fn that_lies() -> Option<Self> {
        let world = World::new().await;
        let programs = ["firecracker", "jailer"].map(|name| pretended(world.path(), name));
        let machine = Self { world, programs };
        if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
            eprintln!("SKIPPED: /dev/kvm does not open here: {error}");
            return None;
        }
        let found = machine.validate("looks", &[]);
        if text(&found).contains("KVM: a trial guest ran") {
            eprintln!("SKIPPED: guests run under /dev/kvm here");
            return None;
        }
        Some(machine)
    }

    fn settings<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let [firecracker, jailer] = &self.programs;
        let path = |path: &'a PathBuf| path.to_str().expect("test folders are UTF-8");
        let mut settings = vec![
            ("EXECUTOR_ACCELERATION", "auto"),
            ("EXECUTOR_FIRECRACKER_BINARY", path(firecracker)),
            ("EXECUTOR_JAILER_BINARY", path(jailer)),
        ];
        settings.extend(more);
        settings
    }

    fn validate(&self, name: &str, more: &[(&str, &str)]) -> Output {
        let instance = &self.world.instance;
        let (url, token) = (instance.url(), &instance.access_token);
        let mut command = Executor::command(self.world.path(), name, &url, token);
        command.arg("validate").envs(self.settings(more));
        command.output().expect("the program is there")
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn pretended(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && exec echo {name} v1.16.1\nexit 1\n");
    fs::write(&path, script).expect("the test's folder is writable");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_choice_is_left_jobs_are_emulated_and_it_is_said() {
    let Some(machine) = Machine::that_lies().await else { return };
    let found = machine.validate("auto", &[]);
    let said = text(&found);
    assert!(found.status.success(), "{said}");
    let line = said.lines().find(|line| line.starts_with("warning  acceleration:"));
    let line = line.unwrap_or_else(|| panic!("no warning:\n{said}"));
    assert!(line.contains("software emulation") && line.contains(LIE), "{line}");
    assert!(said.contains("fix: use a machine with virtualization"), "{said}");
    assert!(said.contains("ok       microVM:"), "{said}");

    let settings = machine.settings(&[]);
    let _executor = machine.world.executor("auto", &settings).await;
    let job = machine.world.submit("echo it runs").await;
    job.reaches("completed", PATIENCE).await;
    let log = job.log().await;
    assert!(log.contains("qemu (tcg)"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_operator_insists_there_is_no_other_way() {
    let Some(machine) = Machine::that_lies().await else { return };
    let kvm = ("EXECUTOR_ACCELERATION", "kvm");
    let qemu = ("EXECUTOR_RUNTIME", "qemu");
    for (name, insists, says, fix) in [
        ("kvm", &[kvm, qemu][..], "KVM does not work here", "load the module kvm_intel or kvm_amd"),
        ("kvm-auto", &[kvm][..], "KVM does not work here", "EXECUTOR_ACCELERATION=auto"),
        (
            "makers",
            &[("EXECUTOR_RUNTIME", "firecracker")][..],
            "Firecracker does not work here",
            "EXECUTOR_RUNTIME=auto",
        ),
        (
            "stock",
            &[("EXECUTOR_USE_FIRECRACKER", "true")][..],
            "Firecracker does not work here",
            "on a machine with KVM",
        ),
    ] {
        let found = machine.validate(name, insists);
        let said = text(&found);
        assert_eq!(found.status.code(), Some(1), "{name}: {said}");
        let mut lines = said.lines().skip_while(|line| !line.starts_with("error    vm-image:"));
        let line = lines.next().unwrap_or_default();
        let cure = lines.find(|line| line.starts_with("         fix: ")).unwrap_or_default();
        let root = nix::unistd::geteuid().is_root();
        let reason = line.contains(LIE) || (!root && line.contains("started by root"));
        assert!(line.contains(says) && reason, "{name}: {said}");
        assert!(cure.contains(fix), "{name}: {said}");

        let settings = machine.settings(insists);
        let world = &machine.world;
        let mut executor = world.executor_at(&world.instance.url(), name, &settings);
        let status = executor.program().ended(PATIENCE).await;
        assert_eq!(status.code(), Some(1), "{name}: {}", executor.log());
        assert!(executor.log().contains(says), "{name}: {}", executor.log());
    }
    assert!(machine.world.api.executors().await.is_empty(), "none of them took jobs");
}

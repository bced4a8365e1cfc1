//! What steps see, how they end, and what they cannot do. One VM for all of it: boots are slow here.

use microvm::guest_client::FailureKind;
use microvm::{ExecSpec, GuestError};

use crate::machine::{Machine, Output, shell};

#[tokio::test(flavor = "multi_thread")]
async fn steps() {
    let machine = Machine::boot().await;
    ends_are_told_exactly(&machine).await;
    each_image_has_its_own_root_and_all_share_the_workspace(&machine).await;
    surroundings_are_as_asked(&machine).await;
    users_are_the_images_own(&machine).await;
    what_cannot_start_says_why(&machine).await;
    nothing_outlives_its_step(&machine).await;
    a_step_cannot_reach_beyond_itself(&machine).await;
    the_environment_of_one_is_not_seen_by_another(&machine).await;
    limits_are_told_from_failures(&machine).await;
    usage_adds_up(&machine).await;
    machine.vm.destroy().await;
}

fn code(output: &Output) -> i32 {
    output.result.exit_code.unwrap_or_else(|| panic!("no exit code: {output:?}"))
}

async fn ends_are_told_exactly(machine: &Machine) {
    let output = machine.run("cat committed/file.txt; echo oops >&2; exit 3").await;
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("from the image\n", "oops\n"));
    assert_eq!(code(&output), 3);
    let output = machine.run("kill -TERM $$").await;
    assert_eq!((output.result.exit_code, output.result.signal), (None, Some(15)), "{output:?}");
    assert!(!output.result.killed && !output.result.oom && !output.result.disk_full);
}

async fn each_image_has_its_own_root_and_all_share_the_workspace(machine: &Machine) {
    let output = machine.run("cat /etc/name; echo changed > /etc/name; echo kept > note").await;
    assert_eq!(output.stdout, "one", "{output:?}");
    let two = ExecSpec { image: "two".into(), ..shell("cat /etc/name note; echo more >> note") };
    assert_eq!(machine.run_as(two).await.stdout, "twokept\n");
    let output = machine.run("cat /etc/name note committed/file.txt").await;
    assert_eq!(output.stdout, "onekept\nmore\nfrom the image\n", "roots are fresh each time");
}

async fn surroundings_are_as_asked(machine: &Machine) {
    let spec = ExecSpec {
        env: vec!["A=image".into(), "B=b c".into(), "A=step".into()],
        cwd: "/data/made/for me".into(),
        hostname: "tester".into(),
        ..shell(r#"echo "$A|$B|$HOME|$PWD|$(hostname)"; grep -c instance.internal /etc/hosts"#)
    };
    let output = machine.run_as(spec).await;
    assert_eq!(output.stdout, "step|b c|/root|/data/made/for me|tester\n1\n", "{output:?}");
    // The image's resolv.conf is a link to another file, which must be left alone.
    let output = machine.run("wc -c < /etc/resolv.conf; cat /etc/name; date +%Y").await;
    let year: u32 =
        output.stdout.lines().last().unwrap().trim_start_matches("one").parse().unwrap();
    assert!(output.stdout.starts_with("0\none") && year > 2024, "{output:?}");
}

async fn users_are_the_images_own(machine: &Machine) {
    let ann = ExecSpec {
        user: "ann".into(),
        ..shell("id; echo $HOME > /dev/stdout; echo mine > by-ann; ls -l by-ann")
    };
    let output = machine.run_as(ann).await;
    assert!(
        output.stdout.starts_with("uid=1000(ann) gid=1000(ann) groups=42(build)"),
        "{output:?}"
    );
    assert!(output.stdout.contains("/home/ann\n") && code(&output) == 0, "{output:?}");
    let number = ExecSpec { user: "77:88".into(), ..shell("id -u; id -g; cat /etc/shadow") };
    assert_eq!(machine.run_as(number).await.stdout, "77\n88\n");
}

async fn what_cannot_start_says_why(machine: &Machine) {
    let failure =
        async |spec: ExecSpec| match machine.guest().exec(spec).await.unwrap().wait().await {
            Err(GuestError::Failed(failure)) => (failure.kind, failure.message),
            other => panic!("{other:?}"),
        };
    let (kind, message) = failure(ExecSpec { argv: vec!["/no/such".into()], ..shell("") }).await;
    assert_eq!(kind, FailureKind::CannotStart);
    assert!(message.contains("/no/such") && message.contains("No such file"), "{message}");
    let (kind, message) = failure(ExecSpec { user: "eve".into(), ..shell("") }).await;
    assert!(kind == FailureKind::CannotStart && message.contains("eve"), "{message}");
    let (kind, _) = failure(ExecSpec { image: "three".into(), ..shell("") }).await;
    assert_eq!(kind, FailureKind::BadRequest);
    let huge = ExecSpec { env: vec!["A=".to_owned() + &"x".repeat(100_000)], ..shell("") };
    assert!(matches!(machine.guest().exec(huge).await, Err(GuestError::TooLarge(_))));
}

async fn nothing_outlives_its_step(machine: &Machine) {
    // A daemon that holds the output open does not hold the step.
    let output = machine.run("(setsid sleep 1000 &) ; sleep 1000 & echo done").await;
    assert_eq!((output.stdout.as_str(), code(&output)), ("done\n", 0));
    let stubborn = shell("trap '' TERM INT; echo on; sleep 1000 & wait; sleep 1000");
    let mut running = machine.guest().exec(stubborn).await.unwrap();
    assert_eq!(running.next().await.unwrap().data, "on\n");
    running.kill().await.unwrap();
    let result = running.wait().await.unwrap();
    assert!(result.killed && result.signal == Some(9), "{result:?}");
    let output = machine.run("ps | grep -c '[s]leep'").await;
    assert_eq!(output.stdout, "0\n");
}

async fn a_step_cannot_reach_beyond_itself(machine: &Machine) {
    // Each of these would end the VM, or open what belongs to it, if it worked.
    let forbidden = [
        "reboot -f",
        "poweroff -f",
        "echo b > /proc/sysrq-trigger && false",
        "echo 1 > /proc/sys/kernel/panic",
        "mknod /tmp/disk b 254 0",
        "mount -t tmpfs none /tmp",
        "umount /proc/sys",
        "mount -o remount,rw /sys",
        "insmod /etc/name",
        "hostname other",
        "date -s 2001-01-01; test $(date +%Y) = 2001",
    ];
    for command in forbidden {
        let output = machine.run(command).await;
        assert_ne!(output.result.exit_code, Some(0), "{command}: {output:?}");
    }
    // It sees only its own processes, and its init shrugs off what it sends.
    let output = machine.run("ps | grep -vc PID; kill -9 1; kill -9 -1; echo alive").await;
    assert!(output.stdout.ends_with("alive\n"), "{output:?}");
    let count: u32 = output.stdout.lines().next().unwrap().parse().unwrap();
    assert!(count <= 5, "{output:?}");
    let output = machine
        .run("ls /dev | wc -l; ls /sys/fs/cgroup | wc -l; grep NoNewPrivs /proc/self/status")
        .await;
    assert_eq!(output.stdout, "14\n0\nNoNewPrivs:\t1\n", "{output:?}");
}

async fn the_environment_of_one_is_not_seen_by_another(machine: &Machine) {
    let spec = ExecSpec { env: vec!["TOKEN=of-one-step".into()], ..shell("echo on; sleep 600") };
    let mut one = machine.guest().exec(spec).await.unwrap();
    one.next().await.unwrap();
    let looks = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n' > /tmp/all; \
                 wc -l < /tmp/all; grep -c of-one-st[e]p /tmp/all";
    let output = machine.run(looks).await;
    let numbers: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(numbers[1], "0", "{output:?}");
    assert_ne!(numbers[0], "0", "it sees its own: {output:?}");
}

async fn limits_are_told_from_failures(machine: &Machine) {
    let output = machine.run("dd if=/dev/zero of=/dev/null bs=200M count=1").await;
    assert!(output.result.oom && output.result.signal == Some(9), "{output:?}");
    assert!(!output.result.disk_full && !output.result.process_limit);
    assert!(output.result.peak_memory_bytes > 32 << 20, "{output:?}");
    // It tidies up after itself, so only who watched knows.
    let script = "dd if=/dev/zero of=big bs=1M count=400 || { sleep 0.5; rm big; exit 1; }";
    let output = machine.run(script).await;
    assert!(output.result.disk_full && code(&output) == 1 && !output.result.oom, "{output:?}");
    let script = "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done";
    let output = machine.run(script).await;
    assert!(output.result.process_limit && code(&output) != 0, "{output:?}");
    let output = machine.run("true").await;
    let result = &output.result;
    assert!(!result.oom && !result.disk_full && !result.process_limit, "{output:?}");
}

async fn usage_adds_up(machine: &Machine) {
    let usage = machine.guest().usage().await.unwrap();
    assert!(usage.cpu_ms > 100 && usage.peak_memory_bytes > 32 << 20, "{usage:?}");
    assert!(usage.disk_bytes > 0 && usage.disk_free_bytes > 100 << 20, "{usage:?}");
}

//! Output floods: nothing is lost, nothing grows, nobody else waits.

use guest_wire::bulk::{CHUNK, WINDOW};

use crate::machine::{Machine, finish, shell};

#[tokio::test(flavor = "multi_thread")]
async fn output() {
    let machine = Machine::boot().await;
    everything_arrives_in_order(&machine).await;
    an_unread_step_stops_only_itself(&machine).await;
    a_dropped_step_is_killed(&machine).await;
    machine.vm.destroy().await;
}

async fn everything_arrives_in_order(machine: &Machine) {
    let output = machine.run("seq 1 50000; echo end >&2").await;
    let expected: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    assert!(output.stdout == expected, "{} bytes", output.stdout.len());
    assert_eq!(output.stderr, "end\n");
}

async fn an_unread_step_stops_only_itself(machine: &Machine) {
    let mut flood = machine.guest().exec(shell("yes | tee /dev/stderr")).await.unwrap();
    let mut tiny = machine.guest().exec(shell("while :; do echo; done")).await.unwrap();
    flood.next().await.unwrap();
    tiny.next().await.unwrap();
    // Others go on: their output, their files.
    let output = machine.run("seq 1 20000 | tail -1").await;
    assert_eq!(output.stdout, "20000\n");
    machine.guest().write_file("f", 0o644, None, vec![7; 500_000].as_slice()).await.unwrap();
    for mut exec in [flood, tiny] {
        exec.kill().await.unwrap();
        let mut received = 0;
        while let Some(chunk) = exec.next().await {
            received += chunk.data.len();
        }
        // What was on its way, and what the guest's two pipes and their readers still held.
        assert!(
            received <= WINDOW + 2 * (CHUNK + (64 << 10)),
            "{received} bytes were held for a reader"
        );
        assert!(exec.wait().await.unwrap().killed);
    }
}

async fn a_dropped_step_is_killed(machine: &Machine) {
    let mut exec = machine.guest().exec(shell("echo on; sleep 1000")).await.unwrap();
    exec.next().await.unwrap();
    drop(exec);
    // In another namespace; but the limit of processes and the group count it as long as it lives.
    let waiting = machine.guest().exec(shell("echo after")).await.unwrap();
    assert_eq!(finish(waiting).await.stdout, "after\n");
}

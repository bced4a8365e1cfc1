//! Terminals and standard input: what is typed, what is told, how they end. One VM for all of it.

use std::time::{Duration, Instant};

use microvm::guest_client::{ExecResult, FailureKind, TerminalSize};
use microvm::{Exec, ExecSpec, GuestError};

use crate::machine::{Machine, PATIENCE, finish, shell};

const SIZE: TerminalSize = TerminalSize { cols: 91, rows: 37 };

#[tokio::test(flavor = "multi_thread")]
async fn terminals() {
    let machine = Machine::boot().await;
    a_shell_is_on_its_own_terminal(&machine).await;
    its_size_follows(&machine).await;
    control_c_interrupts_the_program_and_not_the_shell(&machine).await;
    its_user_owns_it_and_its_environment_wins(&machine).await;
    what_cannot_start_says_why(&machine).await;
    without_being_asked_nothing_is_read(&machine).await;
    a_pipe_carries_everything_and_ends(&machine).await;
    a_program_that_does_not_read_stops_only_its_own_input(&machine).await;
    a_terminal_that_nobody_holds_can_be_opened_again(&machine).await;
    an_end_hangs_up_and_the_stubborn_are_killed(&machine).await;
    dropping_it_kills_it(&machine).await;
    limits_are_told_there_too(&machine).await;
    machine.vm.destroy().await;
}

/// A terminal with what it showed so far.
struct Screen {
    exec: Exec,
    shown: String,
}

impl Screen {
    async fn open(machine: &Machine, spec: ExecSpec) -> Self {
        let spec = ExecSpec { tty: Some(SIZE), ..spec };
        Self { exec: machine.guest().exec(spec).await.unwrap(), shown: String::new() }
    }

    async fn shell(machine: &Machine) -> Self {
        let argv = vec!["/bin/sh".into()];
        Self::open(machine, ExecSpec { argv, env: vec!["PS1=$ ".into()], ..shell("") }).await
    }

    async fn press(&self, keys: &str) {
        self.exec.input().send(keys.as_bytes()).await.unwrap();
    }

    /// Waits until it shows `text` and forgets everything up to there.
    async fn sees(&mut self, text: &str) -> String {
        let waiting = async {
            loop {
                if let Some(at) = self.shown.find(text) {
                    let rest = self.shown.split_off(at + text.len());
                    return std::mem::replace(&mut self.shown, rest);
                }
                let chunk = self.exec.next().await;
                let chunk = chunk.unwrap_or_else(|| panic!("{text:?} was not in {:?}", self.shown));
                self.shown += &String::from_utf8_lossy(&chunk.data);
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(seen) => seen,
            Err(_) => panic!("{text:?} does not appear in {:?}", self.shown),
        }
    }

    async fn ended(self) -> ExecResult {
        tokio::time::timeout(PATIENCE, self.exec.wait()).await.expect("it ends").unwrap()
    }
}

async fn a_shell_is_on_its_own_terminal(machine: &Machine) {
    let mut screen = Screen::shell(machine).await;
    screen.sees("$ ").await;
    screen.press("echo a$((1+1))b; tty; echo $TERM; cat committed/file.txt\r").await;
    // It echoes what is typed, then the program writes; the terminal makes its line ends.
    screen.sees("$((1+1))b").await;
    screen.sees("\r\na2b\r\n/dev/pts/0\r\nxterm-256color\r\nfrom the image\r\n").await;
    screen.press("test -t 0 && test -t 1 && test -t 2 && ls -l /proc/self/fd/0 && exit 7\r").await;
    let seen = screen.sees("/dev/pts/0\r\n").await;
    assert!(seen.contains("exit 7"), "{seen}");
    let result = screen.ended().await;
    assert!(result.exit_code == Some(7) && !result.killed, "{result:?}");
}

async fn its_size_follows(machine: &Machine) {
    let mut screen = Screen::shell(machine).await;
    screen.press("stty size\r").await;
    screen.sees("\r\n37 91\r\n").await;
    screen.exec.input().resize(TerminalSize { cols: 132, rows: 50 }).await.unwrap();
    screen.press("stty size\r").await;
    screen.sees("\r\n50 132\r\n").await;
    let input = screen.exec.input();
    screen.press("exit\r").await;
    assert_eq!(screen.ended().await.exit_code, Some(0));
    input.resize(SIZE).await.expect("what ended needs no size");
    assert!(matches!(input.send(b"late").await, Err(GuestError::Gone(_))));

    let script = "trap 'stty size; exit 0' WINCH; echo on; while :; do sleep 0.1; done";
    let mut screen = Screen::open(machine, shell(script)).await;
    screen.sees("on\r\n").await;
    screen.exec.input().resize(TerminalSize { cols: 60, rows: 20 }).await.unwrap();
    screen.sees("20 60\r\n").await;
    assert_eq!(screen.ended().await.exit_code, Some(0));

    let plain = machine.guest().exec(shell("sleep 1000")).await.unwrap();
    let refused = plain.input().resize(SIZE).await;
    assert!(
        matches!(&refused, Err(GuestError::Failed(failure)) if failure.kind == FailureKind::BadRequest),
        "{refused:?}"
    );
}

async fn control_c_interrupts_the_program_and_not_the_shell(machine: &Machine) {
    let mut screen = Screen::shell(machine).await;
    screen.press("sh -c 'echo wor''king; exec sleep 1000'\r").await;
    screen.sees("\r\nworking\r\n").await;
    screen.press("\x03").await;
    screen.press("echo code $?\r").await;
    screen.sees("\r\ncode 130\r\n").await;
    // Before the prompt the terminal has other modes, and the key another meaning.
    screen.sees("$ ").await;
    screen.press("\x04").await;
    assert_eq!(screen.ended().await.exit_code, Some(0), "Ctrl-D ends the shell");
}

async fn its_user_owns_it_and_its_environment_wins(machine: &Machine) {
    let spec = ExecSpec {
        user: "ann".into(),
        env: vec!["TERM=dumb".into()],
        ..shell("echo over > /dev/tty; echo again > $(tty); echo $TERM; id -un")
    };
    let mut screen = Screen::open(machine, spec).await;
    screen.sees("over\r\nagain\r\ndumb\r\nann\r\n").await;
    assert_eq!(screen.ended().await.exit_code, Some(0));
}

async fn what_cannot_start_says_why(machine: &Machine) {
    for spec in [
        ExecSpec { tty: Some(SIZE), argv: vec!["/no/such".into()], ..shell("") },
        ExecSpec { stdin: true, argv: vec!["/no/such".into()], ..shell("") },
        ExecSpec { tty: Some(SIZE), user: "eve".into(), ..shell("") },
    ] {
        match machine.guest().exec(spec).await.unwrap().wait().await {
            Err(GuestError::Failed(failure)) => {
                assert_eq!(failure.kind, FailureKind::CannotStart, "{}", failure.message);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn without_being_asked_nothing_is_read(machine: &Machine) {
    let script = "cat; test -t 0 || echo no terminal; echo x > /dev/tty || echo none to open";
    let output = machine.run(script).await;
    assert_eq!(output.stdout, "no terminal\nnone to open\n", "{output:?}");
    // Nobody grants the host's bytes either.
    let exec = machine.guest().exec(shell("sleep 1000")).await.unwrap();
    let input = exec.input();
    let sent = tokio::time::timeout(Duration::from_millis(300), input.send(b"x")).await;
    assert!(sent.is_err(), "{sent:?}");
}

async fn a_pipe_carries_everything_and_ends(machine: &Machine) {
    let spec = ExecSpec { stdin: true, user: "ann".into(), ..shell("sha256sum < /dev/stdin") };
    let exec = machine.guest().exec(spec).await.unwrap();
    let input = exec.input();
    let everything: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
    let typing = async {
        input.send(&everything).await.unwrap();
        input.end().await;
    };
    let (output, ()) = tokio::join!(finish(exec), typing);
    let expected = "a7c4bea888022868c93104055fd56077";
    assert!(output.stdout.starts_with(expected), "{output:?}");
}

async fn a_program_that_does_not_read_stops_only_its_own_input(machine: &Machine) {
    for (tty, script) in [(None, "sleep 1000"), (Some(SIZE), "stty raw -echo; echo on; sleep 1000")]
    {
        let spec = ExecSpec { stdin: true, tty, ..shell(script) };
        let mut exec = machine.guest().exec(spec).await.unwrap();
        if tty.is_some() {
            exec.next().await.unwrap();
        }
        let input = exec.input();
        let flood = tokio::spawn(async move { while input.send(&[b'x'; 4096]).await.is_ok() {} });
        assert_eq!(machine.run("seq 1 20000 | tail -1").await.stdout, "20000\n");
        exec.kill().await.unwrap();
        assert!(exec.wait().await.unwrap().killed);
        flood.await.unwrap();
    }
}

async fn a_terminal_that_nobody_holds_can_be_opened_again(machine: &Machine) {
    let script = "exec </dev/null >/dev/null 2>&1; sleep 0.5; echo back >/dev/pts/0; exit 5";
    let mut screen = Screen::open(machine, shell(script)).await;
    screen.sees("back\r\n").await;
    assert_eq!(screen.ended().await.exit_code, Some(5));
}

async fn an_end_hangs_up_and_the_stubborn_are_killed(machine: &Machine) {
    let mut screen =
        Screen::open(machine, shell("trap 'exit 44' HUP; echo on; while :; do sleep 0.1; done"))
            .await;
    screen.sees("on").await;
    screen.exec.input().end().await;
    let result = screen.ended().await;
    assert!(result.exit_code == Some(44) && !result.killed, "{result:?}");

    let begin = Instant::now();
    // It does not even stop writing.
    let mut screen =
        Screen::open(machine, shell("trap '' HUP; echo on; while :; do echo still; done")).await;
    screen.sees("on").await;
    screen.exec.input().end().await;
    let result = screen.ended().await;
    assert!(result.killed && result.signal == Some(9), "{result:?}");
    assert!(begin.elapsed() < PATIENCE / 2);
}

async fn dropping_it_kills_it(machine: &Machine) {
    let script = "trap '' HUP; mkfifo /data/fifo; exec 3<>/data/fifo; echo on; sleep 1000";
    let mut screen = Screen::open(machine, shell(script)).await;
    screen.sees("on").await;
    // It reads an end when the other is gone, with all its processes.
    let witness = shell("exec 4</data/fifo; echo open; cat <&4; echo gone");
    let mut witness = machine.guest().exec(witness).await.unwrap();
    assert_eq!(witness.next().await.unwrap().data, "open\n");
    let input = screen.exec.input();
    drop(screen);
    assert!(matches!(input.send(b"x").await, Err(GuestError::Gone(_))));
    let output = tokio::time::timeout(PATIENCE, finish(witness)).await.expect("it is killed");
    assert_eq!(output.stdout, "gone\n", "{output:?}");
}

async fn limits_are_told_there_too(machine: &Machine) {
    let screen = Screen::open(machine, shell("dd if=/dev/zero of=/dev/null bs=200M count=1")).await;
    let result = screen.ended().await;
    assert!(result.oom && result.signal == Some(9), "{result:?}");
    assert_eq!(machine.run("echo alive").await.stdout, "alive\n");
}

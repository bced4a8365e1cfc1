//! `executor test-vm`: the operator's shell in a machine of its own, which is gone afterwards in every case.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use e2e::engine::Engine;
use e2e::executor::{Executor, run_dirs};
use e2e::processes;
use e2e::terminal::Seat;
use e2e::wait::until_true;
use e2e::world::{IMAGE, PATIENCE, World};
use nix::sys::signal::Signal;

const NAME: &str = "trial";

/// `executor test-vm` on the image of the tests, in containers of the engine if there is one.
fn test_vm_in(world: &World, engine: Option<&Engine>) -> Command {
    let mut command = test_vm(world);
    command.envs(engine.map(Engine::settings).into_iter().flatten());
    command
}

fn test_vm(world: &World) -> Command {
    let instance = &world.instance;
    let mut command =
        Executor::command(world.path(), NAME, &instance.url(), &instance.access_token);
    command.args(["test-vm", "--image", IMAGE]).env("INSTANCE_TOKEN", &instance.admin_token);
    command.env("SRC_LOG_LEVEL", "warn");
    command
}

fn state(world: &World) -> PathBuf {
    world.path().join(NAME)
}

fn nothing_is_left(world: &World) {
    assert_eq!(run_dirs(&state(world)), Vec::<PathBuf>::new());
    assert!(processes::virtual_machines(&state(world)).is_empty());
}

/// Runs it to its end with this text as standard input.
fn with_input(mut command: Command, input: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_has_a_shell() {
    a_person_has_a_shell(&World::new().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_has_a_shell_in_containers() {
    let world = World::new().await;
    let Some(engine) = Engine::start(world.path()).await else { return };
    a_person_has_a_shell(&world, Some(&engine)).await;
    pipes_are_passed_on_to(&world, Some(&engine));
    assert_eq!(engine.containers(), [] as [String; 0]);
}

async fn a_person_has_a_shell(world: &World, engine: Option<&Engine>) {
    let mut seat = Seat::start(&test_vm_in(world, engine));
    seat.sees("leaves the shell", PATIENCE).await;
    seat.sees("# ", PATIENCE).await;
    assert!(seat.modes().contains("-icanon"), "{}", seat.modes());

    seat.press("tty; stty size; pwd; ls -A\r");
    seat.sees("\r\n/dev/pts/0\r\n37 91\r\n/data\r\n", PATIENCE).await;
    seat.resize(132, 50);
    // The new size arrives on its own way, not with what is typed.
    seat.press("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo re''sized\r");
    seat.sees("\r\nresized\r\n", PATIENCE).await;
    seat.press("echo be''gun; sleep 600\r");
    seat.sees("\r\nbegun\r\n", PATIENCE).await;
    seat.press("\x03");
    seat.press("echo in''terrupted $?\r");
    seat.sees("\r\ninterrupted 130\r\n", PATIENCE).await;

    seat.press("exit 7\r");
    let status = seat.ended(PATIENCE).await;
    assert_eq!(status.code(), Some(7), "{}", seat.shown());
    let modes = seat.modes();
    assert!(modes.contains(" icanon") && modes.contains(" echo "), "{modes}");
    nothing_is_left(world);

    // A command has the terminal as well.
    let mut command = test_vm_in(world, engine);
    command.args(["--command", "test -t 0 && test -t 1 && exit 9"]);
    let status = Seat::start(&command).ended(PATIENCE).await;
    assert_eq!(status.code(), Some(9));
    nothing_is_left(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_are_passed_on() {
    pipes_are_passed_on_to(&World::new().await, None);
}

fn pipes_are_passed_on_to(world: &World, engine: Option<&Engine>) {
    let script = "test -t 0 || echo no terminal\ncd /\npwd\necho trouble >&2\nexit 5\necho never\n";
    let output = with_input(test_vm_in(world, engine), script);
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout, "no terminal\n/\n", "{stderr}");
    assert!(stderr.contains("\ntrouble\n") && stderr.ends_with("the machine was removed\n"));
    assert_eq!(output.status.code(), Some(5));
    nothing_is_left(world);

    let mut command = test_vm_in(world, engine);
    command.args(["--command", "wc -c; exit 3"]);
    let output = with_input(command, &"x".repeat(300_000));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "300000");
    assert_eq!(output.status.code(), Some(3));
    nothing_is_left(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_removes_its_machine_however_it_is_ended() {
    let world = World::new().await;
    // Ctrl-C while the machine starts.
    let mut seat = Seat::start(&test_vm(&world));
    until_true("the machine starts", PATIENCE, async || {
        !processes::virtual_machines(&state(&world)).is_empty()
    })
    .await;
    seat.press("\x03");
    assert_eq!(seat.ended(PATIENCE).await.code(), Some(130), "{}", seat.shown());
    nothing_is_left(&world);

    // The window is closed while a program runs.
    let mut seat = Seat::start(&test_vm(&world));
    seat.sees("# ", PATIENCE).await;
    seat.press("trap '' HUP; echo be''gun; sleep 600\r");
    seat.sees("\r\nbegun\r\n", PATIENCE).await;
    seat.hang_up();
    let status = seat.ended(PATIENCE).await;
    assert!(status.code().is_some(), "it ended by itself: {status}");
    nothing_is_left(&world);

    // It is told to end.
    let mut seat = Seat::start(&test_vm(&world));
    seat.sees("# ", PATIENCE).await;
    seat.signal(Signal::SIGTERM);
    assert_eq!(seat.ended(PATIENCE).await.code(), Some(143), "{}", seat.shown());
    assert!(seat.modes().contains(" icanon"));
    nothing_is_left(&world);
}

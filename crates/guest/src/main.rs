//! PID 1 inside the microVM: assembles disks, runs steps, moves bytes. Synchronous, static, small.
//!
//! One binary, three lives. As PID 1 it is the agent ([`agent`]), which never forks by hand: it has threads.
//! Each step is started as a fresh process of the same binary ([`step`]), which builds the step's root and
//! namespaces and then becomes the step. Where jobs run in containers it is the agent of one of them
//! ([`container`]), and the steps are not its business.
//!
//! A step is hostile: it must not reach the agent, the channel's ports or other disks, and whatever it does
//! to memory, processes or disk, the agent must live to tell.

mod agent;
mod arguments;
mod boot;
mod bulk;
mod cgroup;
mod collect;
mod container;
mod exec;
mod failure;
mod files;
mod gateway;
mod images;
mod input;
mod modules;
mod network;
mod output;
mod pause;
mod power;
mod reaper;
mod step;
mod users;

use std::process::ExitCode;

use agent::Home;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(step::ARGUMENT) => return step::main(),
        Some(guest_wire::CONTAINER_ARGUMENT) => return container::main(),
        _ => {}
    }
    if std::process::id() != 1 {
        eprintln!("this is the init process of a microVM; it does nothing anywhere else");
        return ExitCode::FAILURE;
    }
    let why = match boot::bring_up().and_then(|channels| agent::serve(channels, Home::Machine)) {
        Ok(why) => why,
        Err(failure) => format!("error: {}", failure.message),
    };
    println!("guest: {why}");
    power::off()
}

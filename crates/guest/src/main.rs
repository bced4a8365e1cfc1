//! PID 1 inside the microVM: assembles disks, runs steps, moves bytes. Synchronous, static, small.
//!
//! One binary, two lives. As PID 1 it is the agent ([`agent`]), which never forks by hand: it has threads.
//! Each step is started as a fresh process of the same binary ([`step`]), which builds the step's root and
//! namespaces and then becomes the step.
//!
//! A step is hostile: it must not reach the agent, the channel's ports or other disks, and whatever it does
//! to memory, processes or disk, the agent must live to tell.

mod agent;
mod arguments;
mod boot;
mod bulk;
mod cgroup;
mod collect;
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

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(step::ARGUMENT) {
        return step::main();
    }
    if std::process::id() != 1 {
        eprintln!("this is the init process of a microVM; it does nothing anywhere else");
        return ExitCode::FAILURE;
    }
    let why = match boot::bring_up().and_then(agent::serve) {
        Ok(why) => why,
        Err(failure) => format!("error: {}", failure.message),
    };
    println!("guest: {why}");
    power::off()
}

//! The user API over real HTTP, on an instance in this process.

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod artifacts;
mod command_line;
mod events;
mod holds;
mod jobs;
mod logs;
mod openapi;
mod people;
mod repositories;
mod roles;
mod run;
mod sessions;
mod tokens;

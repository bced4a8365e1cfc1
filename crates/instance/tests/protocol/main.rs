//! The executor protocol over real HTTP: a scripted stock executor (raw requests) against our instance.
//! Every row of the route, status and body tables of the base protocol has its line here, and so has
//! each extension.

#[path = "../support/mod.rs"]
mod support;

mod auth_executor;
mod auth_job;
mod dequeue;
mod files;
mod git;
mod heartbeat;
mod holds;
mod logs;
mod long_poll;
mod loops;
mod mark;
mod registry;
mod reports;
mod routes;
mod scripted;
mod serving;
mod upload;

//! The real programs, real virtual machines, one story per test.

mod containers;
mod executor_killed;
mod firecracker;
mod hold;
mod install;
mod instance_killed;
mod limits;
mod many_jobs;
mod network;
mod network_cut;
mod operations;
mod outcomes;
mod quickstart;
mod reclaim;
mod test_vm;
mod tokens;
mod validate;

//! The agent: takes jobs from an instance and runs each in its own microVM.

fn main() {}

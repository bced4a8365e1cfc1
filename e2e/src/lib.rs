//! Whole-system tests: the real programs, each test on its own ports and folders.
//!
//! A test reads like a story. The helpers here *panic* with a message when something does not happen,
//! as test code should, and when a test fails its folder with all logs is kept and the end of each log is
//! printed. Nothing waits by sleeping: everything waits on a condition with a deadline ([`wait`]).

pub mod api;
pub mod engine;
pub mod events;
pub mod executor;
pub mod folder;
pub mod gate;
pub mod http;
pub mod images;
pub mod instance;
pub mod kvm_box;
pub mod outside;
pub mod postgres;
pub mod processes;
pub mod program;
pub mod proxy;
pub mod registry;
pub mod scripted;
pub mod scripted_shell;
pub mod stand_ins;
pub mod terminal;
pub mod wait;
pub mod world;

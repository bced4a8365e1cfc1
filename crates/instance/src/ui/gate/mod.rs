//! The pages before log-in: set-up and log-in.

mod view;

pub use view::*;

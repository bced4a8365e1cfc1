//! Maintenance › Executors.

mod view;

pub use view::*;

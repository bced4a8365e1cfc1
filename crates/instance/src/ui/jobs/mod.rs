//! Jobs: list, form, page.

mod view;

pub use view::*;

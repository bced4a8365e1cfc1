//! The modules under test, by path: without the rest of their crate they build in seconds.

#[path = "../../crates/microvm/src/images/layer.rs"]
pub mod layer;
#[path = "../../crates/microvm/src/images/merge.rs"]
pub mod merge;
#[path = "../../crates/microvm/src/images/reference.rs"]
pub mod reference;
#[path = "../../crates/microvm/src/images/tar/mod.rs"]
pub mod tar;
#[path = "../../crates/microvm/src/images/tree.rs"]
pub mod tree;

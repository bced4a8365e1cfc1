//! The modules under test, by path: without the rest of their crate they build in seconds.

#[path = "../../crates/executor/src/logs/escapes.rs"]
mod escapes;
#[path = "../../crates/executor/src/logs/redact.rs"]
pub mod redact;
#[path = "../../crates/executor/src/logs/variants.rs"]
mod variants;

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

/// The forms of a secret that must not get out.
pub fn forms(secret: &str) -> Vec<Vec<u8>> {
    variants::variants(secret)
}

/// What a person sees of a text.
pub fn visible(text: &[u8]) -> Vec<u8> {
    escapes::Visible::of(text).bytes().to_vec()
}

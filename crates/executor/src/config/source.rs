//! Where settings come from: the environment, or a map in tests.

use std::collections::BTreeMap;

/// Looks a variable up. The environment is read through this and nowhere else.
pub trait Source {
    /// The value of `key`; `None` when unset.
    fn get(&self, key: &str) -> Option<String>;
}

/// The process environment. A value that is not UTF-8 counts as unset.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Source for ProcessEnvironment {
    fn get(&self, key: &str) -> Option<String> {
        std::env::var(key).ok()
    }
}

impl Source for BTreeMap<&str, &str> {
    fn get(&self, key: &str) -> Option<String> {
        BTreeMap::get(self, key).map(|value| (*value).to_owned())
    }
}

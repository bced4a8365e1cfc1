//! The secret that executors share with the instance.

use std::fmt;

use rand::Rng as _;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A secret value: never printed, compared in constant time.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

/// Outcome of comparing a presented shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedToken {
    /// The site configuration has no `executors.accessToken`.
    NotConfigured,
    /// Neither the current secret nor a previous one that still counts.
    Wrong,
    /// Accepted.
    Right,
}

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; for the few places that must write it out.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares without telling by time where, or at which length, the values differ.
    pub fn equals(&self, presented: &str) -> bool {
        let (ours, theirs) = (Sha256::digest(&self.0), Sha256::digest(presented));
        ours.as_slice().ct_eq(theirs.as_slice()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(unset)" } else { "Secret(REDACTED)" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// A fresh shared secret: 32 random bytes as 64 hexadecimal digits, safe in any shell or header.
pub fn generate() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_compare_and_do_not_print() {
        let secret = Secret::new("correct horse battery");
        assert!(secret.equals("correct horse battery"));
        assert!(!secret.equals("correct horse batterz"));
        assert!(!secret.equals(""));
        assert!(!format!("{secret:?}").contains("horse"));
    }

    #[test]
    fn generated_tokens_are_long_and_differ() {
        let (a, b) = (generate(), generate());
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
    }
}

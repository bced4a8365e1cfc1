//! Random tokens. The database holds only their SHA-256; the plain text is handed out once.

use rand::Rng as _;
use sha2::{Digest as _, Sha256};

/// A token as its owner sees it: lower-case hexadecimal of 20 random bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainToken(String);

impl PlainToken {
    /// Draws a new token from the thread's cryptographic generator.
    pub(crate) fn generate() -> Self {
        let mut bytes = [0_u8; 20];
        rand::rng().fill_bytes(&mut bytes);
        Self(hex::encode(bytes))
    }

    /// The text to hand out. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlainToken(REDACTED)")
    }
}

/// What the database holds of a token: SHA-256 of the raw bytes, or of the text when it is no
/// hexadecimal. Looking a token up by this hash leaks nothing through timing.
pub(crate) fn hash(token: &str) -> String {
    let raw = hex::decode(token).unwrap_or_else(|_| token.as_bytes().to_vec());
    hex::encode(Sha256::digest(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_forty_hex_digits_and_do_not_print() {
        let token = PlainToken::generate();
        assert_eq!(token.expose().len(), 40);
        assert!(token.expose().bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
        assert_ne!(token, PlainToken::generate());
        assert!(!format!("{token:?}").contains(token.expose()));
    }
}

//! Password hashes: Argon2id with the parameters that OWASP recommends (19 MiB, 2 passes, 1 lane).

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

/// Hashings at a time in this process: each takes 19 MiB and a core for tens of milliseconds, so
/// that many log-ins at once wait for each other instead of exhausting the machine.
static HASHING: Semaphore = Semaphore::const_new(2);

/// Shortest password, in characters (NIST SP 800-63B-4 §3.1.1.2 for a sole factor allows no less
/// than 15; sites that want that can ask for it, we refuse only what is hopeless).
pub const MIN_LENGTH: usize = 10;
/// Longest password, in bytes; keeps a log-in cheap.
pub const MAX_LENGTH: usize = 512;

/// Why a password is not accepted as a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer characters than [`MIN_LENGTH`].
    #[error("must have at least {MIN_LENGTH} characters")]
    Short,
    /// More bytes than [`MAX_LENGTH`].
    #[error("must have at most {MAX_LENGTH} bytes")]
    Long,
    /// The same as the name.
    #[error("must differ from the name")]
    Name,
}

/// Checks a new password.
///
/// # Errors
/// See [`WeakPassword`].
pub fn check_new(password: &str, name: &str) -> Result<(), WeakPassword> {
    if password.chars().count() < MIN_LENGTH {
        Err(WeakPassword::Short)
    } else if password.len() > MAX_LENGTH {
        Err(WeakPassword::Long)
    } else if password.eq_ignore_ascii_case(name) {
        Err(WeakPassword::Name)
    } else {
        Ok(())
    }
}

/// Hashes a password for storing, with a random salt, as a PHC string.
pub async fn hash(password: String) -> String {
    blocking(move || {
        let hash: PasswordHash = hasher()
            .hash_password(password.as_bytes())
            .expect("a checked length and fixed parameters always hash");
        hash.to_string()
    })
    .await
}

/// Compares a password with a stored hash; `None` (an unknown user) takes just as long and is wrong.
pub async fn verify(password: String, stored: Option<String>) -> bool {
    blocking(move || {
        let stored = stored.as_deref().and_then(|text| PasswordHash::new(text).ok());
        match stored {
            Some(hash) => hasher().verify_password(password.as_bytes(), &hash).is_ok(),
            None => {
                let mut sink = [0_u8; 32];
                let salt = [0_u8; 16];
                let hashed = hasher().hash_password_into(password.as_bytes(), &salt, &mut sink);
                std::hint::black_box((hashed.is_ok(), sink));
                false
            }
        }
    })
    .await
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, Some(32)).expect("the parameters are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _turn = HASHING.acquire().await.expect("the semaphore is never closed");
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_verifies_against_its_hash_only() {
        let stored = hash("correct horse".to_owned()).await;
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_ne!(stored, hash("correct horse".to_owned()).await);
        assert!(verify("correct horse".to_owned(), Some(stored.clone())).await);
        assert!(!verify("wrong horse".to_owned(), Some(stored)).await);
        assert!(!verify("correct horse".to_owned(), None).await);
        assert!(!verify("correct horse".to_owned(), Some("not a hash".to_owned())).await);
    }

    #[test]
    fn weak_passwords_are_refused() {
        assert_eq!(check_new("short", "ada"), Err(WeakPassword::Short));
        assert_eq!(check_new("Administrator", "administrator"), Err(WeakPassword::Name));
        assert_eq!(check_new(&"x".repeat(513), "ada"), Err(WeakPassword::Long));
        assert_eq!(check_new("long enough", "ada"), Ok(()));
    }
}

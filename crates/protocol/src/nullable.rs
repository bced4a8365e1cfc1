//! Go encodes an empty slice or map as `null`, so `null` and "absent" both read as empty.

use serde::{Deserialize, Deserializer};

/// Reads a value that may be `null` or absent as its default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

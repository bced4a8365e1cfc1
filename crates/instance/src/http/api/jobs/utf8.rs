//! Cuts a stream of bytes at characters, so that a character whose bytes arrive apart is one.

/// Length of the part of `bytes` that ends with a whole character; at most three bytes are left over.
/// Bytes that can never become a character count as whole: they are shown as U+FFFD.
pub(crate) fn whole(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let length = match bytes[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            // A continuation byte: its beginning is further back.
            0x80..=0xbf => continue,
            _ => return bytes.len(),
        };
        return if length > back { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn characters_are_not_cut() {
        for text in ["", "a", "é", "€", "😀", "a😀"] {
            let bytes = text.as_bytes();
            assert_eq!(whole(bytes), bytes.len(), "{text}");
        }
        let bytes = "ab😀".as_bytes();
        for cut in 3..6 {
            assert_eq!(whole(&bytes[..cut]), 2, "{cut}");
        }
        assert_eq!(whole(b"a\xff"), 2);
        assert_eq!(whole(b"\x80\x80\x80\x80"), 4);
    }
}

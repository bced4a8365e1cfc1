//! Lines and columns of a text, both counted from 1, columns in characters.

/// Line and column of a byte offset.
pub(super) fn of(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (line, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn columns_count_characters() {
        assert_eq!(of("a\néé x", 7), (2, 4));
        assert_eq!(of("", 9), (1, 1));
    }
}

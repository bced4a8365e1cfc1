//! Numbers in tar headers: octal text, or GNU's base-256 when the first bit is set.

/// Reads a numeric field. An empty field is 0.
pub fn parse(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let text = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
    text.iter().try_fold(0i64, |value, b| match b {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(b - b'0')),
        _ => None,
    })
}

fn base256(field: &[u8]) -> Option<i64> {
    // The marker bit is not part of the number; the next one is its sign.
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] | 0x80 } else { field[0] & 0x7f };
    let start = if negative { -1i128 } else { 0 };
    let value =
        std::iter::once(first).chain(field[1..].iter().copied()).try_fold(start, |value, b| {
            let value = (value << 8) | i128::from(b);
            // Headers have at most 12 bytes; more than 64 bits of value cannot be meant.
            i64::try_from(value).is_ok().then_some(value)
        })?;
    i64::try_from(value).ok()
}

/// Writes octal digits with a closing NUL; `None` when the value does not fit.
pub fn write_octal(field: &mut [u8], value: u64) -> Option<()> {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    (text.len() == digits).then(|| {
        field[..digits].copy_from_slice(text.as_bytes());
        field[digits] = 0;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse(b"0000644\0"), Some(0o644));
        assert_eq!(parse(b"   644 \0"), Some(0o644));
        assert_eq!(parse(b"\0\0\0\0"), Some(0));
        assert_eq!(parse(b"0000648\0"), None);
        assert_eq!(parse(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(parse(&[0xff; 12]), Some(-1));
        assert_eq!(parse(&[0x80, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_field_is_read_or_refused(field in proptest::collection::vec(any::<u8>(), 1..20)) {
            let _ = parse(&field);
        }

        #[test]
        fn octal_survives(value in 0u64..1 << 33) {
            let mut field = [0; 12];
            write_octal(&mut field, value).unwrap();
            prop_assert_eq!(parse(&field), Some(value as i64));
        }
    }
}

//! `Range: bytes=…` with one range (RFC 9110 §14).

/// Which bytes to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them: no range, or one we do not understand, which is ignored as the RFC allows.
    Whole,
    /// From, and how many.
    Some(u64, u64),
    /// Past the end: 416.
    Unsatisfiable,
}

/// Reads the header for a content of `size` bytes.
pub(crate) fn part(header: Option<&str>, size: u64) -> Part {
    let Some(range) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else {
        return Part::Whole;
    };
    let Some((first, last)) = range.split_once('-') else { return Part::Whole };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), _) if last.trim().is_empty() && first < size => Part::Some(first, size - first),
        (Ok(first), Ok(last)) if first <= last && first < size => {
            Part::Some(first, last.min(size - 1) - first + 1)
        }
        (Ok(first), _) if first >= size => Part::Unsatisfiable,
        (Err(_), Ok(count)) if first.trim().is_empty() => match count.min(size) {
            0 => Part::Unsatisfiable,
            count => Part::Some(size - count, count),
        },
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        assert_eq!(part(None, 10), Part::Whole);
        assert_eq!(part(Some("bytes=0-3"), 10), Part::Some(0, 4));
        assert_eq!(part(Some("bytes=4-"), 10), Part::Some(4, 6));
        assert_eq!(part(Some("bytes=-3"), 10), Part::Some(7, 3));
        assert_eq!(part(Some("bytes=5-99"), 10), Part::Some(5, 5));
        assert_eq!(part(Some("bytes=10-"), 10), Part::Unsatisfiable);
        assert_eq!(part(Some("bytes=-0"), 10), Part::Unsatisfiable);
        assert_eq!(part(Some("bytes=0-1,3-4"), 10), Part::Whole);
        assert_eq!(part(Some("lines=0-1"), 10), Part::Whole);
        assert_eq!(part(Some("bytes=5-2"), 10), Part::Whole);
    }
}

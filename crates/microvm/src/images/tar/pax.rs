//! PAX extended headers: `<length> <key>=<value>\n` records.

use super::Xattrs;

/// The records that change an entry. An empty value means "not given", as in Go's reader.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pax {
    /// Replaces the name.
    pub path: Option<Vec<u8>>,
    /// Replaces the link target.
    pub link: Option<Vec<u8>>,
    /// Replaces the size.
    pub size: Option<u64>,
    /// Replaces the owner.
    pub uid: Option<u64>,
    /// Replaces the group.
    pub gid: Option<u64>,
    /// Replaces the time; whole seconds, rounded down.
    pub mtime: Option<i64>,
    /// `SCHILY.xattr.*`
    pub xattrs: Xattrs,
}

/// Reads all records. Unknown keys are ignored, sparse files are refused.
pub fn parse(mut data: &[u8]) -> Result<Pax, &'static str> {
    let mut pax = Pax::default();
    while !data.is_empty() {
        let (key, value, rest) = record(data).ok_or("malformed PAX record")?;
        data = rest;
        pax.apply(key, value)?;
    }
    Ok(pax)
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = digits(&data[..space])?.try_into().ok()?;
    if length <= space + 1 || length > data.len() {
        return None;
    }
    let (record, rest) = data.split_at(length);
    let (body, b"\n") = record.split_at(length - 1) else { return None };
    let body = &body[space + 1..];
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn seconds(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let whole = i64::try_from(digits(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let rounds_down = negative && fraction.iter().any(|b| *b != b'0');
    Some(if negative { -whole - i64::from(rounds_down) } else { whole })
}

impl Pax {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if key.starts_with(b"GNU.sparse.") {
            return Err("sparse files are not supported; build the image without them");
        }
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err("malformed name of an extended attribute");
            }
            self.xattrs.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.xattrs.push((name.to_vec(), value.to_vec()));
            }
            return Ok(());
        }
        let given = !value.is_empty();
        let text = || -> Result<Option<Vec<u8>>, &'static str> {
            if value.contains(&0) {
                return Err("PAX path contains NUL");
            }
            Ok(given.then(|| value.to_vec()))
        };
        let number = || match given {
            true => digits(value).map(Some).ok_or("malformed PAX number"),
            false => Ok(None),
        };
        match key {
            b"path" => self.path = text()?,
            b"linkpath" => self.link = text()?,
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if given => self.mtime = Some(seconds(value).ok_or("malformed PAX time")?),
            _ => {}
        }
        Ok(())
    }
}

/// Appends one record; its length counts its own digits.
pub fn write_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + body.to_string().len();
    if body + length.to_string().len() != length {
        length = body + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_applied() {
        let mut data = Vec::new();
        for (key, value) in [
            ("path", "a/b"),
            ("mtime", "-1.5"),
            ("uid", "7"),
            ("uid", ""),
            ("comment", "x"),
            ("SCHILY.xattr.user.a", "old"),
            ("SCHILY.xattr.user.a", "new=\n"),
        ] {
            write_record(&mut data, key.as_bytes(), value.as_bytes());
        }
        let pax = parse(&data).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!((pax.mtime, pax.uid), (Some(-2), None));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"new=\n".to_vec())]);
    }

    #[test]
    fn hostile_records_are_refused() {
        let refused = |key: &str, value: &[u8]| {
            let mut data = Vec::new();
            write_record(&mut data, key.as_bytes(), value);
            parse(&data).unwrap_err()
        };
        assert!(refused("GNU.sparse.size", b"1").contains("sparse"));
        assert!(refused("path", b"a\0b").contains("NUL"));
        assert!(refused("size", b"-1").contains("number"));
        assert!(refused("size", b"99999999999999999999").contains("number"));
        assert!(refused("mtime", b"soon").contains("time"));
        for bad in
            [&b"x"[..], b"5 a=b", b"3 a", b"0 a=b\n", b"99999999 a=b\n", b"6 ab=c\n", b"+6 a=b\n"]
        {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in proptest::collection::vec(any::<u8>(), 1..2000)) {
            let mut data = Vec::new();
            write_record(&mut data, b"SCHILY.xattr.user.x", &value);
            prop_assert_eq!(parse(&data).unwrap().xattrs, vec![(b"user.x".to_vec(), value)]);
        }
    }
}

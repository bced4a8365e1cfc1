//! The writer: ustar headers, PAX records only where ustar has no room.

use std::io::{self, Read, Write};

use super::{BLOCK, Entry, Kind, number, pax};

/// Writes entries to a stream.
pub struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes an entry without content.
    pub fn header(&mut self, entry: &Entry) -> io::Result<()> {
        let mut records = Vec::new();
        let mut header = [0u8; BLOCK];
        put_text(&mut header[..100], &entry.path, b"path", &mut records);
        put_text(&mut header[157..257], &entry.link, b"linkpath", &mut records);
        put_number(&mut header[100..108], entry.mode.into(), b"", &mut records);
        put_number(&mut header[108..116], entry.uid.into(), b"uid", &mut records);
        put_number(&mut header[116..124], entry.gid.into(), b"gid", &mut records);
        put_number(&mut header[124..136], entry.size, b"size", &mut records);
        put_number(&mut header[136..148], entry.mtime.into(), b"mtime", &mut records);
        header[156] = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::Dir => b'5',
            Kind::Fifo => b'6',
            Kind::Device => b'3',
        };
        for (name, value) in &entry.xattrs {
            pax::write_record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        if !records.is_empty() {
            let mut extended = [0u8; BLOCK];
            extended[..3].copy_from_slice(b"pax");
            number::write_octal(&mut extended[100..108], 0o644).expect("fits");
            number::write_octal(&mut extended[108..116], 0).expect("fits");
            number::write_octal(&mut extended[116..124], 0).expect("fits");
            number::write_octal(&mut extended[124..136], records.len() as u64).ok_or_else(
                || io::Error::new(io::ErrorKind::InvalidInput, "PAX header too large"),
            )?;
            number::write_octal(&mut extended[136..148], 0).expect("fits");
            extended[156] = b'x';
            self.block(extended)?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.block(header)
    }

    /// Writes a file's header and exactly `entry.size` bytes of `content`.
    pub fn file(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        self.header(entry)?;
        let copied = io::copy(&mut content.take(entry.size), &mut self.out)?;
        if copied != entry.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(entry.size)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }

    fn block(&mut self, mut header: [u8; BLOCK]) -> io::Result<()> {
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
        number::write_octal(&mut header[148..155], sum)
            .expect("a sum of 512 bytes fits six digits");
        self.out.write_all(&header)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.out.write_all(&[0; BLOCK][..padding as usize])
    }
}

fn put_text(field: &mut [u8], text: &[u8], key: &[u8], records: &mut Vec<u8>) {
    let fits = text.len().min(field.len());
    field[..fits].copy_from_slice(&text[..fits]);
    if fits < text.len() {
        pax::write_record(records, key, text);
    }
}

fn put_number(field: &mut [u8], value: u64, key: &[u8], records: &mut Vec<u8>) {
    if number::write_octal(field, value).is_none() {
        number::write_octal(field, 0).expect("zero fits");
        pax::write_record(records, key, value.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TarError, TarReader};
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let bytes = |max| proptest::collection::vec(1u8..=255, 1..max);
        let kind = prop_oneof![
            Just(Kind::File),
            Just(Kind::HardLink),
            Just(Kind::Symlink),
            Just(Kind::Dir)
        ];
        let xattrs = proptest::collection::btree_map(bytes(9), bytes(300), 0..3);
        (
            (bytes(300), kind, bytes(300)),
            (0u16..0o10000, any::<u32>(), any::<u32>(), any::<u32>()),
            xattrs,
        )
            .prop_map(|((path, kind, link), (mode, uid, gid, mtime), xattrs)| Entry {
                // A name field of exactly 100 bytes ends in a slash or not; both are kept.
                path,
                kind,
                link,
                mode,
                uid,
                gid,
                mtime,
                size: 0,
                xattrs: xattrs.into_iter().filter(|(name, _)| !name.contains(&b'=')).collect(),
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entries in proptest::collection::vec(entry(), 0..6), content in any::<[u8; 700]>()) {
            let mut archive = Vec::new();
            let mut writer = TarWriter::new(&mut archive);
            let mut expected = Vec::new();
            for mut entry in entries {
                if entry.kind == Kind::File {
                    entry.size = u64::from(entry.mode) % 700;
                    writer.file(&entry, &mut &content[..]).unwrap();
                } else {
                    writer.header(&entry).unwrap();
                }
                expected.push(entry);
            }
            writer.finish().unwrap();
            let mut reader = TarReader::new(&archive[..]);
            for entry in &expected {
                let read = reader.next_entry().unwrap();
                prop_assert_eq!(read.as_ref(), Some(entry));
                if entry.mode.is_multiple_of(2) {
                    let mut read = Vec::new();
                    reader.copy_content(&mut read).unwrap();
                    prop_assert_eq!(&read[..], &content[..entry.size as usize]);
                }
            }
            prop_assert_eq!(reader.next_entry().unwrap(), None);
        }

        #[test]
        fn any_bytes_end_in_an_answer(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            // A right checksum lets the reader get further than random bytes alone would.
            for block in bytes.chunks_exact_mut(BLOCK) {
                block[148..156].fill(b' ');
                let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
                number::write_octal(&mut block[148..155], sum).unwrap();
            }
            let mut reader = TarReader::new(&bytes[..]);
            while let Ok(Some(_)) = reader.next_entry() {}
        }
    }

    #[test]
    fn broken_archives_are_refused() {
        let mut archive = Vec::new();
        let mut writer = TarWriter::new(&mut archive);
        let entry = Entry {
            path: b"a".to_vec(),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 600,
            xattrs: Vec::new(),
        };
        writer.file(&entry, &mut &[7u8; 600][..]).unwrap();
        writer.finish().unwrap();
        let problem = |bytes: &[u8]| {
            let mut reader = TarReader::new(bytes);
            loop {
                match reader.next_entry() {
                    Ok(Some(_)) => {}
                    Ok(None) => return "fine".to_owned(),
                    Err(TarError::Malformed { problem, .. }) => return problem,
                    Err(TarError::Io(e) | TarError::Output(e)) => return e.to_string(),
                }
            }
        };
        assert_eq!(problem(&archive), "fine");
        assert_eq!(problem(&archive[..BLOCK + 600]), "fine", "missing padding at the very end");
        assert!(problem(&archive[..BLOCK + 599]).contains("inside a file"));
        assert!(problem(&archive[..100]).contains("inside a header"));
        let mut flipped = archive.clone();
        flipped[0] = b'b';
        assert!(problem(&flipped).contains("checksum"));
        let mut lone = archive.clone();
        lone[3 * BLOCK + BLOCK] = 1;
        assert!(problem(&lone).contains("zero block"));
    }
}

//! The strict reader.

use std::io::{self, Read};

use super::{BLOCK, Entry, Kind, display, number, pax};

/// PAX headers and GNU long names may have this many bytes, as in Go's reader.
const MAX_SPECIAL: u64 = 1 << 20;

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream does not follow the format, or does what is not supported.
    #[error("entry `{entry}`: {problem}")]
    Malformed {
        /// Path, escaped; empty before it is known.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// The source failed, which includes a broken compression.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What content was copied to failed.
    #[error("{0}")]
    Output(io::Error),
}

impl TarError {
    fn malformed(entry: &[u8], problem: impl Into<String>) -> Self {
        Self::Malformed { entry: display(entry), problem: problem.into() }
    }
}

/// Reads entries one after the other. Content that is not taken is skipped by the next call.
pub struct TarReader<R> {
    source: R,
    content_left: u64,
    padding: u64,
    ended: bool,
}

/// Headers that change the next entry.
#[derive(Default)]
struct Overrides {
    pax: Option<pax::Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Overrides {
    fn any(&self) -> bool {
        self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

impl<R: Read> TarReader<R> {
    /// Starts at a header.
    pub fn new(source: R) -> Self {
        Self { source, content_left: 0, padding: 0, ended: false }
    }

    /// The next entry, or `None` at the end of the archive (two zero blocks, or the stream's end at a
    /// header).
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut overrides = Overrides::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                if overrides.any() {
                    return Err(TarError::malformed(
                        b"",
                        "the archive ends after an extended header",
                    ));
                }
                return Ok(None);
            };
            let name = header_name(&header);
            let size = field(&header, SIZE, &name, "size")?;
            match header[TYPE] {
                b'x' => {
                    let data = self.special(size, &name)?;
                    let pax = pax::parse(&data).map_err(|e| TarError::malformed(&name, e))?;
                    overrides.pax = Some(pax);
                }
                // Global headers are ignored by container engines.
                b'g' => drop(self.special(size, &name)?),
                b'L' => overrides.long_name = Some(until_nul(&self.special(size, &name)?).to_vec()),
                b'K' => overrides.long_link = Some(until_nul(&self.special(size, &name)?).to_vec()),
                _ => return self.entry(&header, name, overrides).map(Some),
            }
        }
    }

    /// Copies the current entry's content.
    pub fn copy_content(&mut self, out: &mut impl io::Write) -> Result<(), TarError> {
        let mut buffer = vec![0; 128 << 10];
        while self.content_left > 0 {
            let want = buffer.len().min(usize::try_from(self.content_left).unwrap_or(usize::MAX));
            let got = self.source.read(&mut buffer[..want])?;
            if got == 0 {
                return Err(TarError::malformed(b"", "the archive ends inside a file"));
            }
            out.write_all(&buffer[..got]).map_err(TarError::Output)?;
            self.content_left -= got as u64;
        }
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let left = self.content_left + self.padding;
        let skipped = io::copy(&mut (&mut self.source).take(left), &mut io::sink())?;
        if skipped < self.content_left {
            return Err(TarError::malformed(b"", "the archive ends inside a file"));
        }
        // Some writers omit the padding after the last file.
        (self.content_left, self.padding) = (0, 0);
        Ok(())
    }

    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        self.ended = true;
        match self.block()? {
            Some(second) if second != [0; BLOCK] => {
                Err(TarError::malformed(b"", "a single zero block is followed by data"))
            }
            _ => Ok(None),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(TarError::malformed(b"", "the archive ends inside a header")),
                got => filled += got,
            }
        }
        Ok(Some(block))
    }

    fn special(&mut self, size: u64, name: &[u8]) -> Result<Vec<u8>, TarError> {
        if size > MAX_SPECIAL {
            return Err(TarError::malformed(name, "an extended header is larger than 1 MiB"));
        }
        self.content_left = size;
        self.padding = padding(size);
        let mut data = Vec::new();
        self.copy_content(&mut data)?;
        Ok(data)
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        name: Vec<u8>,
        overrides: Overrides,
    ) -> Result<Entry, TarError> {
        let pax = overrides.pax.unwrap_or_default();
        let path = overrides.long_name.or(pax.path).unwrap_or(name);
        let bad = |problem: &str| TarError::malformed(&path, problem);
        let link =
            overrides.long_link.or(pax.link).unwrap_or_else(|| until_nul(&header[LINK]).to_vec());
        let kind = match header[TYPE] {
            0 if path.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            b'S' => {
                return Err(bad("sparse files are not supported; build the image without them"));
            }
            other => return Err(bad(&format!("unknown entry type {:?}", char::from(other)))),
        };
        let size = match (kind, pax.size) {
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => field(header, SIZE, &path, "size")?,
            // No other kind has content, whatever its header says (as in Go's reader).
            _ => 0,
        };
        let id = |given: Option<u64>, range, what: &str| match given {
            Some(id) => u32::try_from(id).map_err(|_| bad(&format!("{what} is above 2^32"))),
            None => u32::try_from(field(header, range, &path, what)?)
                .map_err(|_| bad(&format!("{what} is above 2^32"))),
        };
        let (uid, gid) = (id(pax.uid, UID, "owner")?, id(pax.gid, GID, "group")?);
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => number::parse(&header[MTIME]).ok_or_else(|| bad("malformed time"))?,
        };
        let mode = (field(header, MODE, &path, "mode")? & 0o7777) as u16;
        let mtime = u32::try_from(mtime.clamp(0, i64::from(u32::MAX))).expect("clamped");
        self.content_left = size;
        self.padding = padding(size);
        Ok(Entry { path, kind, link, mode, uid, gid, mtime, size, xattrs: pax.xattrs })
    }
}

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..263;
const PREFIX: std::ops::Range<usize> = 345..500;

/// Reads a number that may not be negative, after the header's checksum has been checked.
fn field(
    header: &[u8; BLOCK],
    range: std::ops::Range<usize>,
    name: &[u8],
    what: &str,
) -> Result<u64, TarError> {
    if !checksum_ok(header) {
        return Err(TarError::malformed(b"", "not a tar header (checksum)"));
    }
    number::parse(&header[range])
        .and_then(|value| u64::try_from(value).ok())
        .ok_or_else(|| TarError::malformed(name, format!("malformed {what}")))
}

fn checksum_ok(header: &[u8; BLOCK]) -> bool {
    let Some(stated) = number::parse(&header[CHECKSUM]) else { return false };
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (index, byte) in header.iter().enumerate() {
        let byte = if CHECKSUM.contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        // Old writers summed signed characters.
        signed += i64::from(byte as i8);
    }
    stated == unsigned || stated == signed
}

fn header_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[NAME]);
    let prefix = until_nul(&header[PREFIX]);
    // Only POSIX headers have a prefix; GNU's keep other things there.
    if &header[MAGIC] == b"ustar\0" && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

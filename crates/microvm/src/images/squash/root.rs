//! Owner and time of a squashfs file's root directory.
//!
//! `mksquashfs` 4.5 gives the root of a tar stream its own user and the present time, and refuses every
//! option against that. The tables are stored uncompressed, so the three numbers are set afterwards;
//! without that the same image would give another file each time.
//!
//! Source: `fs/squashfs/squashfs_fs.h` of Linux.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::images::tree::Meta;

const METADATA_BLOCK: u64 = 8192;
/// In the two bytes before a metadata block: it is stored as it is.
const STORED: u16 = 0x8000;

struct Image<'a>(&'a File);

impl Image<'_> {
    fn bytes<const N: usize>(&self, at: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn u16(&self, at: u64) -> io::Result<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: u64) -> io::Result<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: u64) -> io::Result<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    /// Where the byte `offset` bytes after the start of the metadata block at `block` lies; blocks
    /// before the last are full.
    fn metadata(&self, block: u64, offset: u64) -> io::Result<u64> {
        let block = block + offset / METADATA_BLOCK * (METADATA_BLOCK + 2);
        if self.u16(block)? & STORED == 0 {
            return Err(io::Error::other("a table is compressed"));
        }
        Ok(block + 2 + offset % METADATA_BLOCK)
    }

    /// The place of an owner or group in the table of both; 0 where no file has it.
    fn id_index(&self, id: u32) -> io::Result<u16> {
        let count = self.u16(26)?;
        let blocks = self.u64(48)?;
        let per_block = METADATA_BLOCK / 4;
        for index in 0..count {
            let (block, slot) = (u64::from(index) / per_block, u64::from(index) % per_block);
            let block = self.u64(blocks + block * 8)?;
            if self.u32(self.metadata(block, slot * 4)?)? == id {
                return Ok(index);
            }
        }
        Ok(0)
    }
}

/// Sets them as `meta` says. An owner that no other file has becomes the first one of the table.
pub fn set(file: &File, meta: &Meta) -> io::Result<()> {
    let image = Image(file);
    if &image.bytes::<4>(0)? != b"hsqs" {
        return Err(io::Error::other("not a squashfs file"));
    }
    let (uid, gid) = (image.id_index(meta.uid)?, image.id_index(meta.gid)?);
    let root = image.u64(32)?;
    let (block, offset) = (image.u64(64)? + (root >> 16), root & 0xffff);
    // An inode starts with type, mode, uid, gid (two bytes each) and mtime (four); it may cross blocks.
    let fields =
        [uid.to_le_bytes().as_slice(), &gid.to_le_bytes(), &meta.mtime.to_le_bytes()].concat();
    for (index, byte) in fields.iter().enumerate() {
        let at = image.metadata(block, offset + 4 + index as u64)?;
        file.write_all_at(&[*byte], at)?;
    }
    Ok(())
}

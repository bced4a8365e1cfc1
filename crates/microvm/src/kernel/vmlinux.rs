//! The uncompressed kernel inside a bzImage: it boots faster where decompression is emulated, and it is the
//! only form that Firecracker takes. Fields: the kernel's `Documentation/x86/boot.rst`.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::lz4;

/// Larger kernels are not believed, in bytes.
const MAX: usize = 512 << 20;
const ELF: &[u8] = b"\x7fELF";

/// The ELF kernel in `image`, which is one already or a bzImage.
///
/// # Errors
/// What is wrong, for people.
pub fn extract(image: Vec<u8>) -> Result<Vec<u8>, String> {
    if image.starts_with(ELF) {
        return Ok(image);
    }
    let kernel = decompress(payload(&image)?)?;
    if kernel.starts_with(ELF) {
        Ok(kernel)
    } else {
        Err("its payload is not an ELF kernel".into())
    }
}

fn payload(image: &[u8]) -> Result<&[u8], String> {
    let not = || "neither an ELF kernel nor a bzImage of boot protocol 2.08 or later".to_owned();
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize)
    };
    if image.get(0x202..0x206) != Some(b"HdrS") || word(0x206).ok_or_else(not)? & 0xffff < 0x208 {
        return Err(not());
    }
    // Zero means four, for reasons older than most of us.
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248).ok_or_else(not)?;
    let length = word(0x24c).ok_or_else(not)?;
    image.get(start..start + length).ok_or_else(|| "the bzImage is cut".to_owned())
}

fn decompress(payload: &[u8]) -> Result<Vec<u8>, String> {
    let mut kernel = Vec::new();
    let limit = MAX as u64;
    match payload {
        [0x1f, 0x8b, ..] => {
            let decoder = flate2::read::GzDecoder::new(payload);
            decoder
                .take(limit)
                .read_to_end(&mut kernel)
                .map_err(|error| format!("gzip: {error}"))?;
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::stream::read::Decoder::with_buffer(payload);
            let decoder = decoder.map_err(|error| format!("zstd: {error}"))?.single_frame();
            decoder
                .take(limit)
                .read_to_end(&mut kernel)
                .map_err(|error| format!("zstd: {error}"))?;
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => kernel = xz(payload)?,
        _ if payload.starts_with(&lz4::MAGIC) => {
            kernel = lz4::decode(payload, MAX).ok_or("the LZ4 payload is damaged")?;
        }
        _ => return Err("its compression is not gzip, xz, zstd or lz4".into()),
    }
    Ok(kernel)
}

/// Decompresses with the `xz` program, ignoring what follows the first stream.
pub fn xz(data: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new("xz")
        .args(["--decompress", "--stdout", "--single-stream"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("xz (package xz-utils): {error}"))?;
    let mut stdin = child.stdin.take().expect("piped above");
    let output = std::thread::scope(|scope| {
        // It stops reading after the stream, so a broken pipe is no news.
        scope.spawn(move || stdin.write_all(data));
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("xz: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("xz: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 5 * 512];
        image[0x1f1] = 4;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn every_compression_that_distributions_use() {
        let kernel = [ELF, &[7; 4000]].concat();
        let size = 4004u32.to_le_bytes();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&kernel).unwrap();
        let zstd = [zstd::encode_all(kernel.as_slice(), 1).unwrap(), size.to_vec()].concat();
        for payload in [gzip.finish().unwrap(), zstd] {
            assert_eq!(extract(bz_image(&payload)).unwrap(), kernel);
        }
        assert_eq!(extract(kernel.clone()).unwrap(), kernel);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(extract(b"MZ".to_vec()).is_err());
        assert!(extract(bz_image(b"????")).unwrap_err().contains("compression"));
        let mut cut = bz_image(b"????");
        cut.truncate(5 * 512 + 1);
        assert!(extract(cut).unwrap_err().contains("cut"));
    }
}

//! The smallest initramfs: a static busybox and an init that prints a line.

const INIT: &[u8] = b"#!/bin/busybox sh\necho init is here\nexec /bin/busybox poweroff -f\n";

/// A cpio archive (format newc, as `Documentation/driver-api/early-userspace/buffer-format.rst` says).
pub fn with_init(busybox: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    add(&mut archive, "dev", 0o040_755, 0, &[]);
    add(&mut archive, "dev/console", 0o020_600, CONSOLE, &[]);
    add(&mut archive, "bin", 0o040_755, 0, &[]);
    add(&mut archive, "bin/busybox", 0o100_755, 0, busybox);
    add(&mut archive, "init", 0o100_755, 0, INIT);
    add(&mut archive, "TRAILER!!!", 0, 0, &[]);
    archive
}

/// Device 5:1.
const CONSOLE: u32 = 0x0005_0001;

fn add(archive: &mut Vec<u8>, name: &str, mode: u32, device: u32, content: &[u8]) {
    let inode = archive.len(); // any number that no other entry has
    let fields = [
        inode,
        mode as usize,
        0, // uid
        0, // gid
        1, // links
        0, // time
        content.len(),
        0, // device of the file system
        0,
        (device >> 16) as usize,
        (device & 0xffff) as usize,
        name.len() + 1,
        0, // checksum: none in this format
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_start_on_multiples_of_four_and_a_trailer_ends_them() {
        let archive = with_init(b"busybox");
        let text = String::from_utf8_lossy(&archive);
        let starts: Vec<_> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 6);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        assert!(text.contains("TRAILER!!!"));
    }
}

//! The initramfs: our guest as `/init` and the modules it loads, as a `newc` cpio archive
//! (the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// The guest that this build talks to.
pub const GUEST: &[u8] = include_bytes!(env!("GUEST_BINARY"));

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CONSOLE: u32 = 0o020_600;

/// A kernel module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// File name, `virtio_blk.ko`.
    pub name: String,
    /// Uncompressed ELF.
    pub content: Vec<u8>,
    /// Loaded at every boot; others only when they are needed.
    pub early: bool,
}

/// What a module's signature ends with (the kernel's `Documentation/admin-guide/module-signing.rst`).
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// The archive with `init` and `modules`; each comes after those that it depends on.
///
/// Signatures are left out: whoever could change a module here could change `init` as well, and checking
/// each costs time at every boot.
pub fn build(init: &[u8], modules: &[Module]) -> Vec<u8> {
    let mut archive = Archive::default();
    for name in ["dev", "proc", "sys", "root", "modules"] {
        archive.entry(name, DIRECTORY, (0, 0), &[]);
    }
    // The kernel opens it for the standard streams of PID 1.
    archive.entry("dev/console", CONSOLE, (5, 1), &[]);
    archive.entry("init", PROGRAM, (0, 0), init);
    let (mut early, mut later) = (String::new(), String::new());
    for module in modules {
        let list = if module.early { &mut early } else { &mut later };
        list.push_str(&module.name);
        list.push('\n');
        let content = unsigned(&module.content);
        archive.entry(&format!("modules/{}", module.name), FILE, (0, 0), content);
    }
    archive.entry("modules/early", FILE, (0, 0), early.as_bytes());
    archive.entry("modules/later", FILE, (0, 0), later.as_bytes());
    archive.entry("TRAILER!!!", 0, (0, 0), &[]);
    archive.bytes
}

/// A module without its signature: the magic text, twelve bytes before it, and as many as their last four
/// say (`struct module_signature`).
fn unsigned(module: &[u8]) -> &[u8] {
    let Some((rest, info)) = module
        .strip_suffix(SIGNED)
        .and_then(|rest| rest.len().checked_sub(12).map(|at| rest.split_at(at)))
    else {
        return module;
    };
    let length = u32::from_be_bytes([info[8], info[9], info[10], info[11]]) as usize;
    rest.len().checked_sub(length).map_or(module, |end| &rest[..end])
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("nothing in an initramfs reaches 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        // inode, mode, uid, gid, links, mtime, size, device of the file, device it stands for, name, check.
        let fields =
            [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_reads_what_we_write() {
        let modules = [Module { name: "a.ko".into(), content: b"abc".to_vec(), early: true }];
        let archive = build(b"#!init", &modules);
        let mut cpio = Command::new("cpio")
            .args(["--list", "--verbose", "--quiet", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = cpio.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        let has = |mode: &str, name: &str| {
            text.lines().any(|line| line.starts_with(mode) && line.ends_with(name))
        };
        assert!(has("-rwxr-xr-x", " init") && has("crw-------", " dev/console"), "{text}");
        assert!(has("-rw-r--r--", " modules/a.ko") && has("drwxr-xr-x", " proc"), "{text}");
    }

    #[test]
    fn signatures_are_left_out() {
        let info = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        let signed = [b"module", &b"12345"[..], &info, SIGNED].concat();
        assert_eq!(unsigned(&signed), b"module");
        assert_eq!(unsigned(b"module"), b"module");
        assert_eq!(
            unsigned(&[b"x", &[255; 12][..], SIGNED].concat()).len(),
            41,
            "nonsense is kept"
        );
    }

    #[test]
    fn the_guest_needs_no_library_of_the_image() {
        // Program headers of a 64-bit ELF file (`elf(5)`): none may name an interpreter.
        const INTERPRETER: usize = 3;
        let number = |at: usize, length: usize| {
            GUEST[at..at + length].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        assert!(GUEST.starts_with(b"\x7fELF\x02"));
        let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        assert!(count > 0);
        for header in 0..count {
            assert_ne!(number(table + header * size, 4), INTERPRETER);
        }
    }
}

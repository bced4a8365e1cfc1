//! The last thing before a step's program: nothing that it does not need comes along.

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::failure::{Context, Result};
use crate::users::Identity;

/// Capabilities (by number, `linux/capability.h`) that root of a step keeps: container engines' default
/// without `MKNOD`, which would open the other disks, and `AUDIT_WRITE`, which nobody reads.
const KEPT: [u32; 12] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    13, // NET_RAW
    18, // SYS_CHROOT
    31, // SETFCAP
];
const LAST_CAPABILITY: u32 = 40;
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Becomes `identity`, for good.
pub fn drop_all(identity: &Identity) -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("limit core dumps")?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.0, OPEN_FILES.1).context("limit open files")?;
    for capability in (0..=LAST_CAPABILITY).filter(|number| !KEPT.contains(number)) {
        // Later kernels have more, older ones fewer; what does not exist cannot be had.
        let _: nix::Result<()> = drop_from_bounding_set(capability);
    }
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).context("set groups")?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    // `/dev/stdout` opens the pipe anew, which only its owner may.
    nix::unistd::fchown(std::io::stdout(), Some(uid), Some(gid)).context("hand over the output")?;
    nix::unistd::fchown(std::io::stderr(), Some(uid), Some(gid)).context("hand over the output")?;
    setresgid(gid, gid, gid).context("set group")?;
    setresuid(uid, uid, uid).context("set user")?;
    if uid.is_root() {
        set_capabilities(KEPT.iter().fold(0, |set, number| set | 1 << number))
            .context("drop capabilities")?;
    }
    nix::sys::prctl::set_no_new_privs().context("forbid new privileges")
}

fn drop_from_bounding_set(capability: u32) -> nix::Result<()> {
    // SAFETY: takes plain numbers only.
    let result =
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
    nix::errno::Errno::result(result).map(drop)
}

/// `capset(2)`, version 3 of its header: two 32-bit halves.
fn set_capabilities(set: u64) -> nix::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let half = |bits: u32| Data { effective: bits, permitted: bits, inheritable: 0 };
    let header = Header { version: 0x2008_0522, pid: 0 };
    let data = [half(set as u32), half((set >> 32) as u32)];
    // SAFETY: both point to complete structures of the layout that the kernel documents, alive over the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    nix::errno::Errno::result(result).map(drop)
}

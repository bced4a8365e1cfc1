//! Messages of the control channel, as JSON.
//!
//! New optional fields may be added within a generation; everything else is a new generation
//! (`VERSIONING.md`).

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::{GENERATION, OLDEST_GENERATION};

/// What the host sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostMessage {
    /// First, once.
    Hello(Hello),
    /// Everything after; answered by a [`GuestMessage::Reply`] with the same number.
    Request {
        /// Chosen by the host, unique within a boot.
        id: u64,
        /// What to do.
        request: Request,
    },
}

/// What the guest sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestMessage {
    /// The answer to [`HostMessage::Hello`].
    Hello(HelloReply),
    /// The answer to a request.
    Reply {
        /// The request's number.
        id: u64,
        /// What came of it.
        result: Outcome,
    },
}

/// The host introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest generation that the host speaks.
    pub oldest_generation: u32,
    /// The newest.
    pub generation: u32,
    /// The host's clock, nanoseconds since 1970; the guest sets its own by it.
    pub unix_time_ns: u64,
    /// Randomness for the guest's pool, hexadecimal.
    #[serde(default)]
    pub seed: String,
}

/// The guest's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HelloReply {
    /// The generation both use from now on, or `None` if there is none.
    pub generation: Option<u32>,
    /// The guest's own range, for the error message.
    pub supported: (u32, u32),
    /// `uname -r`.
    pub kernel: String,
    /// Milliseconds from the kernel's start to this reply.
    pub uptime_ms: u64,
    /// Memory that the guest's kernel manages, in bytes.
    pub memory_bytes: u64,
}

/// The newest generation that both ranges contain.
pub fn agree(theirs: (u32, u32)) -> Option<u32> {
    let newest = GENERATION.min(theirs.1);
    (newest >= OLDEST_GENERATION.max(theirs.0)).then_some(newest)
}

/// What the host can ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Assemble disks into the workspace and step images. Once per boot.
    Prepare(Prepare),
    /// Run a command in an image. The reply comes when it ended; its output goes to `stream`.
    Exec(Exec),
    /// Kill everything of a running exec. Replies at once; the exec's own reply follows.
    Kill {
        /// The `stream` of the exec.
        stream: u32,
    },
    /// Change the size of a running exec's terminal. One that ended is fine. Since generation 2.
    Resize {
        /// The `stream` of the exec.
        stream: u32,
        /// The new size.
        size: TerminalSize,
    },
    /// Receive one file of the workspace from `stream`.
    WriteFile(WriteFile),
    /// Send one file of the workspace on `stream`.
    ReadFile(ReadFile),
    /// Remove one file or empty directory of the workspace; absent is fine.
    RemoveFile {
        /// Relative to the workspace.
        path: String,
    },
    /// Send the workspace's files that match on `stream`.
    Collect(Collect),
    /// What was used so far.
    Usage,
    /// Are you there?
    Ping,
    /// Power off. No reply.
    PowerOff,
}

/// See [`Request::Prepare`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prepare {
    /// Serial of the scratch disk (ext4, writable).
    pub scratch: String,
    /// Serial of a read-only image that is the workspace's initial content.
    pub workspace: Option<String>,
    /// Serials of the step images.
    pub images: Vec<String>,
    /// Most processes of all steps together; 0 = no limit of its own.
    pub max_processes: u32,
    /// The network card's settings; `None` = the VM has none.
    pub network: Option<Network>,
    /// The host's clock now, nanoseconds since 1970. The one in [`Hello`] was sent before the guest
    /// booted; this one sets the clock again.
    pub unix_time_ns: Option<u64>,
}

/// Addresses of the network card. The IPv4 gateway also answers names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The guest's own address.
    pub address_v4: Ipv4Addr,
    /// Bits of the network in it.
    pub prefix_v4: u8,
    /// The default route.
    pub gateway_v4: Ipv4Addr,
    /// The guest's own address.
    pub address_v6: Ipv6Addr,
    /// Bits of the network in it.
    pub prefix_v6: u8,
    /// The default route.
    pub gateway_v6: Ipv6Addr,
}

/// See [`Request::Exec`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// Even; names the exec and carries its output.
    pub stream: u32,
    /// Serial of the image, as given to prepare.
    pub image: String,
    /// Program and arguments; a program without `/` is looked up in `PATH`.
    pub argv: Vec<String>,
    /// `NAME=value`; later ones win.
    pub env: Vec<String>,
    /// Absolute path in the step's root; made if missing.
    pub cwd: String,
    /// `USER` of the image: empty, `name`, `uid`, `name:group`, `uid:gid`, …
    pub user: String,
    /// Host name seen by the step; empty = a default.
    pub hostname: String,
    /// What the host sends on `stream` is the program's standard input, which ends with the stream.
    /// Otherwise it is empty. Since generation 2.
    pub stdin: bool,
    /// Run it on a terminal of this size: all its output is [`crate::Tag::Stdout`], what the host sends on
    /// `stream` is typed, and the stream's end hangs up. Since generation 2.
    pub tty: Option<TerminalSize>,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a row.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// See [`Request::WriteFile`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteFile {
    /// Carries the content from host to guest.
    pub stream: u32,
    /// Relative to the workspace; missing directories are made.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970; `None` leaves the time of writing.
    pub modified: Option<i64>,
}

/// See [`Request::ReadFile`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadFile {
    /// Carries the content from guest to host.
    pub stream: u32,
    /// Relative to the workspace.
    pub path: String,
    /// Longer files fail with [`FailureKind::TooLarge`].
    pub max_bytes: u64,
}

/// See [`Request::Collect`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Collect {
    /// Carries [`FileHeader`], content, [`FileEnd`] for each file.
    pub stream: u32,
    /// Globs relative to the workspace; `*` does not cross `/`, `**` does. Links are not followed.
    pub globs: Vec<String>,
    /// Longer files are skipped and counted.
    pub max_file_bytes: u64,
    /// When the next file would exceed this in total, the rest is skipped and counted.
    pub max_total_bytes: u64,
    /// Most files; the rest is skipped and counted.
    pub max_files: u64,
}

/// Tells which file follows on a collect stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileHeader {
    /// Relative to the workspace, UTF-8.
    pub path: String,
    /// Bytes at the time of opening.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

/// Ends a file on a collect stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEnd {
    /// Why the content is not complete, if it is not.
    pub error: Option<String>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It worked.
    Ok(Reply),
    /// It did not.
    Failed(Failure),
}

/// What a request that worked returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// Of [`Request::Exec`].
    Exec(ExecResult),
    /// Of [`Request::WriteFile`] and [`Request::ReadFile`].
    Bytes(u64),
    /// Of [`Request::Collect`].
    Collected(Collected),
    /// Of [`Request::Usage`].
    Usage(Usage),
}

/// How a command ended. A job is hostile: these are the guest agent's own observations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecResult {
    /// What it exited with, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed a process of the step for memory.
    pub oom: bool,
    /// The scratch disk had no blocks or inodes left at some time during the step.
    pub disk_full: bool,
    /// The limit of processes was hit.
    pub process_limit: bool,
    /// The host asked to kill it.
    pub killed: bool,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Highest memory use in bytes.
    pub peak_memory_bytes: u64,
}

/// What a collect did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Collected {
    /// Files sent whole.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that matched and were not sent: too large, too many, unreadable, not UTF-8, not regular.
    pub skipped: u64,
    /// The first few reasons, for people.
    pub notes: Vec<String>,
}

/// What all steps used since the boot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Highest memory use in bytes.
    pub peak_memory_bytes: u64,
    /// Bytes in use on the scratch disk.
    pub disk_bytes: u64,
    /// Bytes free on the scratch disk.
    pub disk_free_bytes: u64,
}

/// Why a request did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// Kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request makes no sense now or at all.
    BadRequest,
    /// No such file.
    NotFound,
    /// Larger than the request's own limit.
    TooLarge,
    /// No room on the scratch disk.
    DiskFull,
    /// The path leaves the workspace, passes a link, or is not a regular file.
    UnsafePath,
    /// The program could not be started (missing, not executable, unknown user).
    CannotStart,
    /// The host ended the stream.
    Aborted,
    /// A fault of the guest.
    Internal,
    /// Sent by a newer guest.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_take_the_newest_common_generation() {
        assert_eq!(agree((OLDEST_GENERATION, GENERATION + 5)), Some(GENERATION));
        assert_eq!(agree((GENERATION + 1, GENERATION + 5)), None);
        assert_eq!(agree((0, OLDEST_GENERATION.wrapping_sub(1))), None);
    }

    #[test]
    fn a_failure_kind_of_a_later_guest_is_read() {
        let failure: Failure = serde_json::from_str(r#"{"kind":"melted","message":"x"}"#).unwrap();
        assert_eq!(failure.kind, FailureKind::Unknown);
    }
}

//! Puts Firecracker and its jailer in place, out of an archive as its makers release it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::download::{Part, Progress};
use super::version::Version;
use crate::images::registry;

/// The version that is installed.
pub const RELEASE: Version = Version(1, 16, 1);
/// Where its makers publish it.
pub const RELEASES: &str = "https://github.com/firecracker-microvm/firecracker/releases/download";
/// The programs, as they are called when installed.
pub const PROGRAMS: [&str; 2] = ["jailer", "firecracker"];

/// Begins the names of programs that are not whole yet.
const UNFINISHED: &str = ".new-";
/// Larger answers and programs are not believed, in bytes.
const ARCHIVE_MAX: u64 = 256 << 20;
const PROGRAM_MAX: u64 = 64 << 20;
const CHECKSUM_MAX: usize = 64 << 10;
/// For the checksum. The archive may take its time, as long as something comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why it could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The host's file system said no.
    #[error("{path}: {cause}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// It could not be downloaded.
    #[error("{url}: {problem}")]
    Download {
        /// From where.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The archive is not the one that its makers published.
    #[error("{archive}: its SHA-256 is {found}, {expected} was published")]
    Checksum {
        /// Which archive.
        archive: String,
        /// Of the file.
        found: String,
        /// As published.
        expected: String,
    },
    /// The archive or its checksum does not hold what it should.
    #[error("{archive}: {problem}")]
    Archive {
        /// Which file.
        archive: String,
        /// What is wrong.
        problem: String,
    },
}

/// The name of the release's archive; its checksum has `.sha256.txt` after it.
pub fn archive_name() -> String {
    format!("firecracker-v{RELEASE}-x86_64.tgz")
}

/// Whether both programs of the release are in `dir`.
pub fn is_installed(dir: &Path) -> bool {
    PROGRAMS.iter().all(|program| {
        let output = std::process::Command::new(dir.join(program)).arg("--version").output();
        let says = output.ok().and_then(|o| Version::parse(&String::from_utf8_lossy(&o.stdout)));
        says == Some(RELEASE)
    })
}

/// Downloads the release from below `releases` and puts its programs into `dir`. A download that was
/// interrupted goes on where it stopped; the checksum decides in the end. Two at once take turns.
///
/// # Errors
/// [`InstallError`]; no program in `dir` has changed then.
pub async fn download(
    releases: &str,
    dir: &Path,
    progress: Progress<'_>,
) -> Result<(), InstallError> {
    let to = dir.to_owned();
    let lock = tokio::task::spawn_blocking(move || lock(&to)).await.expect("it does not panic")?;
    if is_installed(dir) {
        // By another run, while we waited.
        return Ok(());
    }
    let url = format!("{}/v{RELEASE}/{}", releases.trim_end_matches('/'), archive_name());
    let failed = |problem| InstallError::Download { url: url.clone(), problem };
    let client = registry::client().map_err(|error| failed(error.to_string()))?;
    let checksum = published(&client, &format!("{url}.sha256.txt")).await?;
    let part = Part::open(dir, &archive_name())?;
    let whole = part.read()?;
    // It may have come whole before its run was killed.
    if hex::encode(Sha256::digest(&whole)) != sum_in(&checksum) {
        drop(whole);
        part.fetch(&client, &url, ARCHIVE_MAX, progress).await?;
    }
    let (name, dir) = (archive_name(), dir.to_owned());
    let installed = tokio::task::spawn_blocking(move || {
        let _lock = lock;
        match unpack(&name, &part.read()?, &checksum, &dir) {
            // It was no fault of the archive's.
            Err(error @ InstallError::Io { .. }) => Err(error),
            done => part.remove().and(done),
        }
    });
    installed.await.expect("it does not panic")
}

/// Installs from `from`, a folder with the release's archive and its checksum. Blocking.
///
/// # Errors
/// As [`download`].
pub fn from_folder(from: &Path, dir: &Path) -> Result<(), InstallError> {
    let path = from.join(archive_name());
    let checksum = from.join(format!("{}.sha256.txt", archive_name()));
    let archive = fs::read(&path).map_err(io_error(&path))?;
    let checksum = fs::read_to_string(&checksum).map_err(io_error(&checksum))?;
    let _lock = lock(dir)?;
    unpack(&path.display().to_string(), &archive, &checksum, dir)
}

/// The checksum's file.
async fn published(client: &reqwest::Client, url: &str) -> Result<String, InstallError> {
    let failed = |problem: String| InstallError::Download { url: url.to_owned(), problem };
    let read = async {
        let mut response = client.get(url).timeout(PATIENCE).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > CHECKSUM_MAX {
                break;
            }
        }
        Ok::<_, reqwest::Error>(body)
    };
    let body = read.await.map_err(|error| failed(with_causes(&error.without_url())))?;
    if body.len() > CHECKSUM_MAX {
        return Err(failed(format!("more than {} KiB for a checksum", CHECKSUM_MAX >> 10)));
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn sum_in(checksum: &str) -> String {
    checksum.split_whitespace().next().unwrap_or_default().to_lowercase()
}

/// Makes `dir`. One at a time; freed by the kernel if we die. Blocking.
fn lock(dir: &Path) -> Result<File, InstallError> {
    fs::create_dir_all(dir).map_err(io_error(dir))?;
    let lock = File::open(dir).map_err(io_error(dir))?;
    lock.lock().map_err(io_error(dir))?;
    Ok(lock)
}

/// An error in the words of all that led to it.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Puts the programs in place; nobody else may use `dir`.
fn unpack(name: &str, archive: &[u8], checksum: &str, dir: &Path) -> Result<(), InstallError> {
    let expected = sum_in(checksum);
    let problem = |problem: &str| InstallError::Archive {
        archive: name.to_owned(),
        problem: problem.to_owned(),
    };
    if expected.len() != 64 {
        return Err(problem("its checksum is not 64 hexadecimal digits"));
    }
    let found = hex::encode(Sha256::digest(archive));
    if found != expected {
        return Err(InstallError::Checksum { archive: name.to_owned(), found, expected });
    }
    remove_unfinished(dir).map_err(io_error(dir))?;
    let mut staged = Vec::new();
    let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let unreadable = |error: io::Error| problem(&error.to_string());
    for entry in entries.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        let wanted = PROGRAMS.iter().find(|program| {
            path.file_name().is_some_and(|file| *file == *format!("{program}-v{RELEASE}-x86_64"))
        });
        let Some(program) = wanted.filter(|_| entry.header().entry_type().is_file()) else {
            continue;
        };
        // Appears whole or not at all, beside its place.
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir);
        let mut file = file.map_err(io_error(dir))?;
        let copied = io::copy(&mut entry.take(PROGRAM_MAX), &mut file).map_err(unreadable)?;
        if copied == PROGRAM_MAX {
            return Err(problem("a program in it is too large to be true"));
        }
        executable(file.as_file()).map_err(io_error(file.path()))?;
        staged.push((*program, file));
    }
    for program in PROGRAMS {
        if !staged.iter().any(|(staged, _)| *staged == program) {
            return Err(problem(&format!("there is no {program}-v{RELEASE}-x86_64 in it")));
        }
    }
    for (program, file) in staged {
        let target = dir.join(program);
        file.persist(&target).map_err(|error| io_error(&target)(error.error))?;
    }
    Ok(())
}

/// What runs that were killed left of programs.
fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn executable(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o755))?;
    file.sync_all()
}

/// For `map_err` on file operations on `path`.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |cause| InstallError::Io { path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(programs: &[&str]) -> Vec<u8> {
        let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(encoder);
        for program in programs {
            let text = format!("#!/bin/sh\necho {program} v{RELEASE}\n");
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            let path = format!("release-v{RELEASE}-x86_64/{program}-v{RELEASE}-x86_64");
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn folder(archive: &[u8], checksum: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(archive_name()), archive).unwrap();
        let name = format!("{}.sha256.txt", archive_name());
        fs::write(dir.path().join(name), checksum).unwrap();
        dir
    }

    fn sum(archive: &[u8]) -> String {
        format!("{}  {}\n", hex::encode(Sha256::digest(archive)), archive_name())
    }

    #[test]
    fn a_release_is_checked_and_put_in_place() {
        let archive = release(&["firecracker", "jailer", "seccompiler-bin"]);
        let (from, to) = (folder(&archive, &sum(&archive)), tempfile::tempdir().unwrap());
        let dir = to.path().join("bin");
        assert!(!is_installed(&dir));
        from_folder(from.path(), &dir).unwrap();
        assert!(is_installed(&dir));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "only what is needed");
    }

    #[test]
    fn a_release_that_is_not_right_changes_nothing() {
        let (good, half) = (release(&["firecracker", "jailer"]), release(&["firecracker"]));
        for (archive, checksum, expected) in [
            (&good, sum(b"other"), "was published"),
            (&good, String::new(), "64 hexadecimal"),
            (&half, sum(&half), "there is no jailer"),
            (&good[..100].to_vec(), sum(&good[..100]), "incomplete"),
        ] {
            let (from, to) = (folder(archive, &checksum), tempfile::tempdir().unwrap());
            let error = from_folder(from.path(), to.path()).unwrap_err().to_string().to_lowercase();
            assert!(expected.split('|').any(|words| error.contains(words)), "{error}");
            assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "{error}");
        }
        let to = tempfile::tempdir().unwrap();
        let error = from_folder(to.path(), to.path()).unwrap_err().to_string();
        assert!(error.contains(&archive_name()), "{error}");
    }

    #[tokio::test]
    async fn a_release_is_downloaded() {
        use std::io::Write as _;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let archive = release(&["firecracker", "jailer"]);
        let length = archive.len();
        let files = [(".sha256.txt", sum(&archive).into_bytes()), (".tgz", archive.clone())];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let releases = format!("http://{}/download/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
                let line = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = line.split(' ').nth(1).unwrap().to_owned();
                assert!(path.starts_with(&format!("/download/v{RELEASE}/firecracker-v")), "{path}");
                let body = &files.iter().find(|(end, _)| path.ends_with(end)).unwrap().1;
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
            }
        });
        let to = tempfile::tempdir().unwrap();
        // This server knows no ranges: it starts anew.
        let part = to.path().join(format!(".part-{}", archive_name()));
        fs::write(&part, vec![0; length]).unwrap();
        download(&releases, to.path(), &mut |_, _| ()).await.unwrap();
        assert!(is_installed(to.path()));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 2);

        // Whole before its run was killed.
        let jailer = to.path().join("jailer");
        fs::remove_file(&jailer).unwrap();
        fs::write(&part, &archive).unwrap();
        let mut never = |_, _| panic!("it is not downloaded again");
        download(&releases, to.path(), &mut never).await.unwrap();
        assert!(is_installed(to.path()) && !part.exists());

        fs::remove_file(&jailer).unwrap();
        let error = download("http://127.0.0.1:1/", to.path(), &mut |_, _| ()).await.unwrap_err();
        assert!(error.to_string().contains(&archive_name()), "{error}");
        assert!(to.path().join("firecracker").exists(), "what was there is still there");
    }
}

//! `executor install` that is killed in the middle, and run again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::folder::Folder;
use e2e::gate::{Closed, Gate};
use e2e::images;
use e2e::program::{Program, binary, run_command};
use e2e::stand_ins::{StandIns, When};
use e2e::wait::until_true;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(120);
const RELEASE: &str = "firecracker-v1.16.1-x86_64";

fn install(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("executor"));
    command.arg("install").args(arguments);
    command.env("EXECUTOR_STATE_DIR", folder.join("state"));
    command.env("EXECUTOR_KERNEL_DIR", folder.join("kernel"));
    command
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A release as its makers publish it, in `<folder>/v1.16.1`; its programs only say their version.
fn release(folder: &Path) -> PathBuf {
    let files = folder.join("release-v1.16.1-x86_64");
    fs::create_dir_all(&files).expect("the test's folder is writable");
    for name in ["firecracker", "jailer"] {
        let script = format!("#!/bin/sh\necho {name} v1.16.1\nexit\n");
        // So large that it comes in many pieces, however well it is compressed.
        let padding: String =
            (0..60_000_u32).map(|n| format!("# {}\n", n.wrapping_mul(2_654_435_761))).collect();
        let path = files.join(format!("{name}-v1.16.1-x86_64"));
        fs::write(path, script + &padding).expect("it is writable");
    }
    let published = folder.join("v1.16.1");
    fs::create_dir(&published).expect("it is writable");
    let archive = format!("{RELEASE}.tgz");
    let mut tar = Command::new("tar");
    tar.arg("-czf")
        .arg(published.join(&archive))
        .arg("-C")
        .arg(folder)
        .arg("release-v1.16.1-x86_64");
    run_command(&mut tar);
    let sum = run_command(Command::new("sha256sum").arg(&archive).current_dir(&published));
    fs::write(published.join(format!("{archive}.sha256.txt")), sum).expect("it is writable");
    published
}

/// A server of files that can send the end of one. It ends with the test.
struct Server {
    address: std::net::SocketAddr,
    /// Where the answers began that were not whole files.
    begins: Arc<Mutex<Vec<usize>>>,
}

impl Server {
    async fn start(folder: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (folder, begins) = (folder.to_owned(), Arc::<Mutex<Vec<usize>>>::default());
        let seen = Arc::clone(&begins);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, folder.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, begins }
    }

    fn begins(&self) -> Vec<usize> {
        std::mem::take(&mut self.begins.lock().expect("nobody panicked"))
    }
}

async fn answer(mut stream: TcpStream, folder: PathBuf, begins: Arc<Mutex<Vec<usize>>>) {
    let mut request = vec![0; 4096];
    let Ok(length @ 1..) = stream.read(&mut request).await else { return };
    let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
    let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
    let body = fs::read(folder.join(path)).expect("it is published");
    let tag = format!("\"{}\"", body.len());
    let header = |name: &str| request.lines().find_map(|line| line.strip_prefix(name));
    let range = header("range: bytes=").and_then(|range| range.strip_suffix('-'));
    let range = range.filter(|_| header("if-range: ").is_none_or(|version| version == tag));
    let from: usize = range.map_or(0, |from| from.parse().expect("a number"));
    let (status, range) = if from > 0 {
        begins.lock().expect("nobody panicked").push(from);
        let range = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
        ("206 Partial Content", range)
    } else {
        ("200 OK", String::new())
    };
    let rest = &body[from..];
    let head = format!(
        "HTTP/1.0 {status}\r\nETag: {tag}\r\n{range}Content-Length: {}\r\n\r\n",
        rest.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), rest].concat()).await;
    // The other side ends it: a gate that is closed must not let our end through.
    let _ = stream.read(&mut [0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firecracker_killed_in_its_download() {
    let folder = Folder::new();
    release(folder.path());
    let server = Server::start(folder.path()).await;
    let gate = Gate::start(server.address).await;
    let (url, bin) = (gate.url(), folder.path().join("state/bin"));
    let again = || install(folder.path(), &["firecracker", "--url", &url]);

    gate.close(Closed::Answer(".tgz HTTP", 60_000));
    let mut killed = Program::start("install", again(), folder.path());
    until_true("half of it is here", SOON, async || gate.is_holding()).await;
    let part = bin.join(format!(".part-{RELEASE}.tgz"));
    let has_come = || fs::metadata(&part).is_ok_and(|part| part.len() > 0);
    until_true("and is kept", SOON, async || has_come()).await;
    killed.kill();
    gate.open();
    assert!(!bin.join("firecracker").exists() && !bin.join("jailer").exists(), "all or nothing");

    // One that was killed while it unpacked leaves a part of a program.
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join(".new-dead"), "half").unwrap();
    let come = usize::try_from(fs::metadata(&part).unwrap().len()).unwrap();
    let output = again().output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("installed: Firecracker 1.16.1"), "{said}");
    assert_eq!(names_in(&bin), ["firecracker", "jailer"]);
    assert_eq!(server.begins(), [come], "it went on where it stopped");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("going on after ") && said.contains(" MiB of "), "{said}");

    gate.close(Closed::Request("GET"));
    let said = run_command(&mut again());
    assert!(said.starts_with("already installed"), "{said}");
    assert!(!gate.is_holding(), "nothing was downloaded again");

    // Damaged, it is installed again; from a source that is not right it stays as it is.
    gate.open();
    fs::write(bin.join("jailer"), "#!/bin/sh\necho Jailer v1.0.0\n").unwrap();
    let archive = folder.path().join(format!("v1.16.1/{RELEASE}.tgz"));
    let whole = fs::read(&archive).unwrap();
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    let output = again().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("its SHA-256 is"), "{said}");
    assert_eq!(names_in(&bin), ["firecracker", "jailer"]);
    fs::write(&archive, &whole).unwrap();

    // A part that is of something else: the checksum says so in the end, and the next run starts anew.
    fs::write(&part, vec![0; whole.len() / 2]).unwrap();
    let output = again().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("its SHA-256 is"), "{said}");
    assert_eq!(server.begins(), [whole.len() / 2]);
    assert_eq!(names_in(&bin), ["firecracker", "jailer"]);
    assert!(run_command(&mut again()).starts_with("installed"));
    assert_eq!(server.begins(), Vec::<usize>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_from_a_folder_killed_in_the_middle() {
    // What the tests' own kernel was made of.
    let downloads = images::kernel().join("download");
    let packages: Vec<PathBuf> = names_in(&downloads)
        .into_iter()
        .filter(|name| name.ends_with(".deb"))
        .map(|name| downloads.join(name))
        .collect();
    assert!(!packages.is_empty(), "{} holds the packages", downloads.display());
    let folder = Folder::new();
    let from = release(folder.path());
    for package in &packages {
        let to = from.join(package.file_name().expect("it has a name"));
        fs::copy(package, to).expect("the test's folder is writable");
    }
    let kernel = folder.path().join("kernel");
    let from = from.display().to_string();
    let all = || install(folder.path(), &["all", "--from", &from]);

    let programs = StandIns::new(folder.path());
    programs.hold("dpkg-deb", When::After, "* --extract *");
    let mut command = all();
    command.env("PATH", programs.path());
    let mut killed = Program::start("install", command, folder.path());
    until_true("a package is unpacked", SOON, async || programs.are_waiting()).await;
    killed.kill();
    programs.release();
    assert!(!kernel.join("current").exists(), "all or nothing");
    let begun = names_in(&kernel).iter().filter(|name| name.starts_with(".new-")).count();
    assert_eq!(begun, 1, "{:?}", names_in(&kernel));

    let said = run_command(&mut all());
    assert_eq!(said.matches("installed: ").count(), 2, "{said}");
    assert!(!said.contains("already"), "{said}");
    let left = names_in(&kernel).into_iter().filter(|name| name.starts_with(".new-"));
    assert_eq!(left.count(), 0);
    let said = run_command(&mut all());
    assert_eq!(said.matches("already installed: ").count(), 2, "{said}");
}

//! The world outside a job: a network namespace that plays the internet, a metadata service and a private
//! network, with a real DNS server. It needs root.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use crate::program::{Program, run_command};

/// A public address that only our namespace answers. So is the next one.
pub const PUBLIC: &str = "11.22.33.45";
/// Another public address.
pub const OTHER: &str = "11.22.33.46";
/// A public IPv6 address.
pub const PUBLIC_6: &str = "2600:1234::45";
/// Where clouds keep the credentials of a machine.
pub const METADATA: &str = "169.254.169.254";
/// An address of the operator's own network.
pub const PRIVATE: &str = "10.78.0.1";
/// This machine, as seen from out there.
pub const MACHINE: &str = "198.18.78.1";
/// The operator's DNS server. `public.test`, `other.test`, `inside.test`, `metadata.test` lead to the
/// addresses above.
pub const DNS: &str = "198.18.78.2";

const NAMESPACE: &str = "e2e-outside";
const NEAR: &str = "e2eoutside0";
const FAR: &str = "e2eoutside1";

/// Answers every HTTP request on ports 80 and 5000 with the address that it reached.
pub struct Outside {
    _dns: Program,
    _namespace: Namespace,
}

struct Namespace;

impl Drop for Namespace {
    fn drop(&mut self) {
        remove();
    }
}

/// The link by itself, too: listeners keep the namespace alive for as long as the test program runs.
fn remove() {
    for args in [["link", "del", NEAR], ["netns", "del", NAMESPACE]] {
        let _ = Command::new("ip").args(args).output();
    }
}

impl Outside {
    /// Makes it; `None` without root, with a word about it.
    pub fn new(folder: &Path) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return None;
        }
        // What a run that was killed left behind.
        remove();
        ip(&format!("netns add {NAMESPACE}"));
        let namespace = Namespace;
        let inside = |args: &str| ip(&format!("-n {NAMESPACE} {args}"));
        ip(&format!("link add {NEAR} type veth peer name {FAR} netns {NAMESPACE}"));
        ip(&format!("addr add {MACHINE}/30 dev {NEAR}"));
        ip(&format!("-6 addr add fd78::1/126 dev {NEAR} nodad"));
        ip(&format!("link set {NEAR} up"));
        inside("link set lo up");
        inside(&format!("addr add {DNS}/30 dev {FAR}"));
        inside(&format!("-6 addr add fd78::2/126 dev {FAR} nodad"));
        inside(&format!("link set {FAR} up"));
        for address in [PUBLIC, OTHER, PRIVATE, METADATA] {
            inside(&format!("addr add {address}/32 dev lo"));
            ip(&format!("route replace {address}/32 via {DNS}"));
        }
        inside(&format!("-6 addr add {PUBLIC_6}/128 dev lo"));
        ip(&format!("-6 route replace {PUBLIC_6}/128 via fd78::2"));
        for port in [80, 5000] {
            serve(port);
        }
        Some(Self { _dns: dns_server(folder), _namespace: namespace })
    }
}

fn ip(args: &str) {
    run_command(Command::new("ip").args(args.split(' ')));
}

fn serve(port: u16) {
    let listener = std::thread::spawn(move || {
        let namespace = File::open(Path::new("/run/netns").join(NAMESPACE)).expect("it was made");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
        TcpListener::bind(("::", port)).expect("nobody else is in there")
    });
    let listener = listener.join().expect("the thread does not panic");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: TcpStream) {
    let Ok(here) = stream.local_addr() else { return };
    let body = format!("this is {}", here.ip().to_canonical());
    let _ = stream.read(&mut [0; 4096]);
    let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

fn dns_server(folder: &Path) -> Program {
    let mut run = Command::new("ip");
    run.args([
        "netns",
        "exec",
        NAMESPACE,
        "dnsmasq",
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
    ])
    .args(["--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-"]);
    for (name, address) in
        [("public", PUBLIC), ("other", OTHER), ("inside", PRIVATE), ("metadata", METADATA)]
    {
        run.arg(format!("--host-record={name}.test,{address}"));
    }
    Program::start("dns", run, folder)
}

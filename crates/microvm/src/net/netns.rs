//! A network namespace with one TAP in it: all that a job's network leaves on the host, and all that has
//! to be removed.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::NetworkError;
use super::addresses::{GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, PREFIX_V4, PREFIX_V6};

/// Where `ip netns` keeps namespaces (ip-netns(8)).
const DIRECTORY: &str = "/run/netns";
/// The TAP inside each namespace.
pub const TAP: &str = "tap0";
/// Where the proxy listens inside each namespace.
pub(super) const PROXY_PORT: u16 = 1080;

/// A namespace made by us. Not removed on drop: removal can fail and must be reported, and a namespace
/// outlives a crash anyway, see [`super::reclaim`].
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

/// Sockets inside a namespace, usable from outside; IPv4 and IPv6 apart, because the original
/// destination of a redirected connection can only be asked from a socket of its own family.
pub(super) struct Sockets {
    pub dns_udp: [UdpSocket; 2],
    pub dns_tcp: [TcpListener; 2],
    pub proxy: [TcpListener; 2],
}

impl Namespace {
    /// Makes the namespace and its TAP in one `ip -batch` each. An old one of that name is removed first.
    pub(super) async fn create(name: &str) -> Result<Self, NetworkError> {
        let namespace = Self { name: name.to_owned() };
        if namespace.path().exists() {
            namespace.remove().await?;
        }
        run("ip", &["netns", "add", name], None).await?;
        namespace.furnish("").await
    }

    /// Gives the namespace of a process a name, and a TAP that leads nowhere: what the processes in it send
    /// needs a way out before the rules can take it off that way. They end with the process.
    pub(super) async fn of_process(name: &str, pid: u32) -> Result<Self, NetworkError> {
        let namespace = Self { name: name.to_owned() };
        if namespace.path().exists() {
            namespace.remove().await?;
        }
        run("ip", &["netns", "attach", name, &pid.to_string()], None).await?;
        if let Err(source) = namespace.enter(allow_v6) {
            namespace.remove().await?;
            return Err(NetworkError::Sockets { namespace: name.to_owned(), source });
        }
        let routes =
            format!("route add 0.0.0.0/0 dev {TAP}\nroute add ::/0 dev {TAP} src {GATEWAY_V6}\n");
        namespace.furnish(&routes).await
    }

    /// Makes the TAP, and what `more` says.
    async fn furnish(self, more: &str) -> Result<Self, NetworkError> {
        let batch = format!(
            "link set lo up\n\
             tuntap add dev {TAP} mode tap\n\
             link set {TAP} address {GATEWAY_MAC}\n\
             addr add {GATEWAY_V4}/{PREFIX_V4} dev {TAP}\n\
             addr add {GATEWAY_V6}/{PREFIX_V6} dev {TAP} nodad\n\
             link set {TAP} up\n\
             {more}"
        );
        let made = run("ip", &["-n", &self.name, "-batch", "-"], Some(&batch)).await;
        if let Err(error) = made {
            self.remove().await?;
            return Err(error);
        }
        Ok(self)
    }

    /// The name, as `ip netns` lists it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Applies a rule set.
    pub(super) async fn apply(&self, rules: &str) -> Result<(), NetworkError> {
        run("ip", &["netns", "exec", &self.name, "nft", "-f", "-"], Some(rules)).await.map(drop)
    }

    /// Reads the counters of our table as `nft`'s JSON (libnftables-json(5)).
    pub(super) async fn counters(&self) -> Result<String, NetworkError> {
        let list = ["netns", "exec", &self.name, "nft", "-j", "list", "table", "inet", "executors"];
        run("ip", &list, None).await
    }

    /// Opens the sockets in the namespace. They stay where they were made.
    pub(super) fn sockets(&self) -> Result<Sockets, NetworkError> {
        let opened = self.enter(|| {
            Ok(Sockets {
                dns_udp: [
                    bind(Domain::IPV4, Type::DGRAM, 53)?,
                    bind(Domain::IPV6, Type::DGRAM, 53)?,
                ]
                .map(UdpSocket::from),
                dns_tcp: [listen(Domain::IPV4, 53)?, listen(Domain::IPV6, 53)?],
                proxy: [listen(Domain::IPV4, PROXY_PORT)?, listen(Domain::IPV6, PROXY_PORT)?],
            })
        });
        opened.map_err(|source| NetworkError::Sockets { namespace: self.name.clone(), source })
    }

    /// Works in the namespace. A thread enters it and ends: no other thread of this process ever changes its
    /// namespace.
    fn enter<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        let path = self.path();
        let thread = std::thread::spawn(move || {
            setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join().unwrap_or_else(|_| {
            Err(std::io::Error::other("the thread that enters the namespace panicked"))
        })
    }

    /// Removes the namespace and with it the TAP and the rules. Not there any more is success.
    pub(super) async fn remove(&self) -> Result<(), NetworkError> {
        if !self.path().exists() {
            return Ok(());
        }
        run("ip", &["netns", "del", &self.name], None).await.map(drop)
    }
}

/// Names of all namespaces that begin with `prefix`.
pub(super) fn with_prefix(prefix: &str) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The namespace of that name, without making it.
pub(super) fn existing(name: String) -> Namespace {
    Namespace { name }
}

/// Container engines switch IPv6 off where they make no network. `/proc/sys/net` is that of whoever looks.
fn allow_v6() -> std::io::Result<()> {
    for scope in ["all", "default", "lo"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "0")?;
    }
    Ok(())
}

fn bind(domain: Domain, kind: Type, port: u16) -> std::io::Result<Socket> {
    let socket = Socket::new(domain, kind, None)?;
    let address: SocketAddr = if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
        (Ipv6Addr::UNSPECIFIED, port).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, port).into()
    };
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(domain: Domain, port: u16) -> std::io::Result<TcpListener> {
    let socket = bind(domain, Type::STREAM, port)?;
    socket.listen(1024)?;
    Ok(socket.into())
}

async fn run(program: &str, args: &[&str], stdin: Option<&str>) -> Result<String, NetworkError> {
    let failed = |problem: String| NetworkError::Command {
        command: format!("{program} {}", args.join(" ")),
        problem,
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(format!("cannot be started ({e}); install iproute2 and nftables")))?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).await.map_err(|e| failed(e.to_string()))?;
    }
    let output = child.wait_with_output().await.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("{}: {}", output.status, said.trim())))
    }
}

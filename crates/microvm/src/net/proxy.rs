//! Carries a job's TCP connections: learns where each was going, decides, connects, copies.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::dns::Resolver;
use super::policy::{Blocked, Decision, EgressPolicy};
use super::server_name::{self, Seen};
use super::{Counts, Domain, is_local};

/// Connections of one job at a time; more wait to be accepted.
const CONNECTIONS: usize = 512;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to say which server it wants.
const NAME_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Proxy {
    policy: Arc<EgressPolicy>,
    resolver: Arc<Resolver>,
    counts: Counts,
}

impl Proxy {
    pub(super) fn new(policy: EgressPolicy, resolver: Arc<Resolver>, counts: Counts) -> Self {
        Self { policy: Arc::new(policy), resolver, counts }
    }

    /// Serves until aborted; connections in flight end with it.
    pub(super) async fn serve(self, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let proxy = self.clone();
                    connections.spawn(async move {
                        if let Err(error) = proxy.carry(stream).await {
                            tracing::debug!(%error, "a job's connection");
                        }
                        drop(slot);
                    });
                }
                Err(error) => tracing::warn!(%error, "accepting a job's connection"),
            }
            while connections.try_join_next().is_some() {}
        }
    }

    async fn carry(&self, mut inside: TcpStream) -> io::Result<()> {
        let to = original_destination(&inside)?;
        let connected = match self.policy.address(to, is_local) {
            Decision::Connect => connect(&[to.ip()], to.port()).await.map(|out| (out, Vec::new())),
            Decision::NeedsName => match self.by_name(&mut inside, to).await? {
                Ok((name, head)) => {
                    let addresses = self.resolver.addresses(&name).await?;
                    connect(&addresses, to.port()).await.map(|out| (out, head))
                }
                Err(blocked) => return self.refuse(inside, blocked),
            },
            Decision::Refuse(blocked) => return self.refuse(inside, blocked),
        };
        let (mut outside, head) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                reset(inside)?;
                return Err(error);
            }
        };
        outside.write_all(&head).await?;
        let copied = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
        if let Ok((sent, received)) = copied {
            self.counts.transferred(received, sent + head.len() as u64);
        }
        copied.map(drop)
    }

    /// The name a connection is for and the bytes read to learn it. Connecting to what *we* resolve
    /// the name to, not to the address the job chose, is what makes a forged name useless.
    async fn by_name(
        &self,
        inside: &mut TcpStream,
        to: SocketAddr,
    ) -> io::Result<Result<(Domain, Vec<u8>), Blocked>> {
        // Servers of other protocols speak first, or never say a name: there the address must be one
        // that this job resolved from an allowed name.
        if let Some(name) = self.resolver.name_of(to.ip())
            && !matches!(to.port(), 80 | 443)
        {
            let allowed = self.policy.names(&name, to.port());
            return Ok(if allowed { Ok((name, Vec::new())) } else { Err(Blocked::NotAllowed) });
        }
        let seen = timeout(NAME_TIMEOUT, server_name::read(inside)).await??;
        Ok(match seen {
            Seen::Name(name, head) if self.policy.names(&name, to.port()) => Ok((name, head)),
            Seen::Name(..) => Err(Blocked::NotAllowed),
            Seen::Nothing => Err(Blocked::Nameless),
        })
    }

    fn refuse(&self, inside: TcpStream, blocked: Blocked) -> io::Result<()> {
        self.counts.blocked(blocked);
        reset(inside)
    }
}

/// Closes with a reset (`SO_LINGER` 0), so that the job sees a refusal, not an empty answer.
fn reset(stream: TcpStream) -> io::Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address that a job may reach");
    for ip in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect((*ip, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

/// Where the guest wanted to go before the rules led it here.
fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    Ok(match stream.local_addr()? {
        SocketAddr::V4(_) => {
            let raw = getsockopt(stream, sockopt::OriginalDst)?;
            let ip = u32::from_be(raw.sin_addr.s_addr).into();
            SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)))
        }
        SocketAddr::V6(_) => {
            let raw = getsockopt(stream, sockopt::Ip6tOriginalDst)?;
            let ip = raw.sin6_addr.s6_addr.into();
            SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(raw.sin6_port), 0, 0))
        }
    })
}

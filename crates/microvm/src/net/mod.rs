//! Egress of a microVM.
//!
//! A VM's TAP lives alone in a network namespace that has **no other interface**: no bridge, no veth, no
//! route, no NAT. What leaves the guest ends at two sockets of this process inside that namespace:
//!
//! ```text
//! guest ── TAP ─┤ namespace ├─ DNS socket ──► resolver ──► upstream servers
//!                           └─ TCP socket ──► proxy: policy::address, policy::names ──► connect
//! ```
//!
//! So "what may a job reach" is one pure function ([`EgressPolicy::address`]), not a rule set spread over
//! the host's firewall; another VM is not refused but unreachable; the host's own rules, a flush of
//! them, or Docker's forwarding policy change nothing; and when this process dies, so does the way out.
//! The price: TCP and DNS only. UDP (QUIC, NTP) and ICMP are turned away and counted.

mod addresses;
mod dns;
mod domain;
mod netns;
mod nft;
mod policy;
mod proxy;
mod ranges;
mod server_name;
mod upstream;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, UdpSocket};
use tokio_util::task::AbortOnDropHandle;

pub use addresses::{
    GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, GUEST_MAC, GUEST_V4, GUEST_V6, PREFIX_V4, PREFIX_V6,
    guest_card,
};
pub use domain::{Domain, DomainError, DomainPattern};
pub use netns::TAP;
pub use policy::{Blocked, Decision, DomainRule, EgressPolicy, NetworkRule, RuleError};
pub use ranges::Range;
pub use upstream::Upstream;

/// Why a network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `ip` or `nft` failed.
    #[error("{command}: {problem}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit and what it said.
        problem: String,
    },
    /// Sockets could not be opened inside the namespace.
    #[error("sockets in network namespace {namespace}: {source}")]
    Sockets {
        /// The namespace.
        namespace: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Attempts that were turned away, by the name of the reason.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    blocked: BTreeMap<String, u64>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Counts {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // A panic while counting leaves numbers, not invariants: go on with what is there.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn blocked(&self, why: Blocked) {
        self.with(|state| *state.blocked.entry(why.as_str().to_owned()).or_default() += 1);
    }

    fn transferred(&self, bytes_in: u64, bytes_out: u64) {
        self.with(|state| {
            state.bytes_in += bytes_in;
            state.bytes_out += bytes_out;
        });
    }
}

/// What a job's network did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// Bytes that came to the job.
    pub bytes_in: u64,
    /// Bytes that the job sent.
    pub bytes_out: u64,
    /// Refused attempts, by reason.
    pub blocked: BTreeMap<String, u64>,
}

/// A running network of one job. Dropping it closes every connection; [`Network::remove`] also removes
/// the namespace.
#[derive(Debug)]
pub struct Network {
    namespace: netns::Namespace,
    rules: String,
    counts: Counts,
    _services: Vec<AbortOnDropHandle<()>>,
}

impl Network {
    /// Makes the namespace called `name` with rules and services in place, before any VM uses it.
    ///
    /// # Errors
    /// Not root, or `ip`/`nft` missing or failing: see [`NetworkError`].
    pub async fn create(
        name: &str,
        policy: EgressPolicy,
        upstream: Upstream,
    ) -> Result<Self, NetworkError> {
        let namespace = netns::Namespace::create(name).await?;
        Self::open(namespace, nft::rules(TAP, netns::PROXY_PORT), policy, upstream).await
    }

    /// The same for the processes that share the network namespace of `pid`, which has nothing in it: the
    /// first of a job's containers. They must have no rights over the namespace. `name` is how the namespace
    /// is found again; it ends with its processes.
    ///
    /// # Errors
    /// As [`Network::create`], or the process is gone.
    pub async fn of_process(
        name: &str,
        pid: u32,
        policy: EgressPolicy,
        upstream: Upstream,
    ) -> Result<Self, NetworkError> {
        let namespace = netns::Namespace::of_process(name, pid).await?;
        Self::open(namespace, nft::rules_for_processes(netns::PROXY_PORT), policy, upstream).await
    }

    async fn open(
        namespace: netns::Namespace,
        rules: String,
        policy: EgressPolicy,
        upstream: Upstream,
    ) -> Result<Self, NetworkError> {
        match Self::serve(&namespace, &rules, policy, upstream).await {
            Ok((counts, services)) => Ok(Self { namespace, rules, counts, _services: services }),
            Err(error) => {
                namespace.remove().await?;
                Err(error)
            }
        }
    }

    async fn serve(
        namespace: &netns::Namespace,
        rules: &str,
        policy: EgressPolicy,
        upstream: Upstream,
    ) -> Result<(Counts, Vec<AbortOnDropHandle<()>>), NetworkError> {
        let sockets = namespace.sockets()?;
        let failed =
            |source| NetworkError::Sockets { namespace: namespace.name().to_owned(), source };
        let counts = Counts::default();
        let resolver = Arc::new(dns::Resolver::new(policy.clone(), upstream, counts.clone()));
        let proxy = proxy::Proxy::new(policy, Arc::clone(&resolver), counts.clone());
        namespace.apply(rules).await?;
        let mut services = Vec::new();
        for socket in sockets.dns_udp {
            let socket = UdpSocket::from_std(socket).map_err(failed)?;
            services.push(spawn(dns::serve_udp(socket, Arc::clone(&resolver))));
        }
        for listener in sockets.dns_tcp {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            services.push(spawn(dns::serve_tcp(listener, Arc::clone(&resolver))));
        }
        for listener in sockets.proxy {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            services.push(spawn(proxy.clone().serve(listener)));
        }
        Ok((counts, services))
    }

    /// The namespace in which the VMM must run (`ip netns exec`, or the jailer's `--netns`).
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Puts the rules back if somebody removed them; tells whether it had to. Without the rules the
    /// guest reaches nothing, so this is about service, not about safety.
    ///
    /// # Errors
    /// `nft` failed.
    pub async fn reconcile(&self) -> Result<bool, NetworkError> {
        if self.namespace.counters().await.is_ok_and(|list| list.contains("\"lead\"")) {
            return Ok(false);
        }
        self.namespace.apply(&self.rules).await?;
        Ok(true)
    }

    /// What the job did so far.
    pub async fn usage(&self) -> NetworkUsage {
        let mut usage = self.counts.with(|state| NetworkUsage {
            bytes_in: state.bytes_in,
            bytes_out: state.bytes_out,
            blocked: state.blocked.clone(),
        });
        let listed = self.namespace.counters().await.unwrap_or_default();
        for (name, packets) in parse_counters(&listed) {
            *usage.blocked.entry(name).or_default() += packets;
        }
        usage.blocked.retain(|_, count| *count > 0);
        usage
    }

    /// Removes the namespace. Connections end when the network is dropped.
    ///
    /// # Errors
    /// `ip` failed; [`reclaim`] will try again.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        self.namespace.remove().await
    }
}

/// Whether there is a namespace whose name begins with `prefix`.
pub fn exists(prefix: &str) -> bool {
    netns::with_prefix(prefix).is_ok_and(|names| !names.is_empty())
}

/// Removes the namespaces whose names begin with `prefix` and that nobody owns, which `owned` tells of each:
/// what dead executors left. Returns the names.
///
/// # Errors
/// `ip` failed for one of them; the others are removed all the same.
pub async fn reclaim(
    prefix: &str,
    owned: impl Fn(&str) -> bool,
) -> Result<Vec<String>, NetworkError> {
    let names = netns::with_prefix(prefix).map_err(|error| NetworkError::Command {
        command: "list network namespaces".to_owned(),
        problem: error.to_string(),
    })?;
    let mut failed = None;
    let mut removed = Vec::new();
    for name in names.into_iter().filter(|name| !owned(name)) {
        match netns::existing(name.clone()).remove().await {
            Ok(()) => removed.push(name),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(removed), Err)
}

fn spawn(service: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(service))
}

fn parse_counters(listed: &str) -> Vec<(String, u64)> {
    let Ok(document) = serde_json::from_str::<serde_json::Value>(listed) else {
        return Vec::new();
    };
    let items = document["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| {
            let counter = item.get("counter")?;
            let name = counter.get("name")?.as_str()?;
            let known = nft::COUNTERS.contains(&name);
            known.then(|| Some((name.to_owned(), counter.get("packets")?.as_u64()?)))?
        })
        .collect()
}

/// Whether `ip` is an address of this machine, asked anew each time: addresses come and go.
fn is_local(ip: IpAddr) -> bool {
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else {
        // Cannot tell: treat every address as ours rather than let one through.
        return true;
    };
    addresses.filter_map(|interface| interface.address).any(|address| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        v4.or(v6) == Some(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_nft_json() {
        let listed = r#"{"nftables":[{"metainfo":{}},{"counter":{"name":"udp_traffic","packets":3,"bytes":9}},
            {"counter":{"name":"else","packets":1}},{"chain":{"name":"lead"}}]}"#;
        assert_eq!(parse_counters(listed), [("udp_traffic".to_owned(), 3)]);
        assert!(parse_counters("").is_empty());
    }

    #[test]
    fn loopback_is_this_machine() {
        assert!(is_local("127.0.0.1".parse().unwrap()));
        assert!(!is_local("8.8.8.8".parse().unwrap()));
    }
}

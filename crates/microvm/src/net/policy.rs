//! What a job may reach: one pure decision, made for each connection and each look-up.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::domain::{Domain, DomainPattern};
use super::ranges::{self, Range};

/// Ports of a domain rule that names none.
const DEFAULT_DOMAIN_PORTS: [u16; 2] = [80, 443];
/// DNS over TCP/UDP and over TLS (RFC 1035, RFC 7858): only our resolver answers names.
const DNS_PORTS: [u16; 2] = [53, 853];

/// Egress of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Networks that are reachable although they are private, or although there is an allow-list.
    pub networks: Vec<NetworkRule>,
    /// Names that may lead to private addresses and to this machine, whatever else is refused or allowed:
    /// the operator's own servers, such as a registry mirror.
    pub trusted: Vec<DomainRule>,
    /// `None`: every public address. `Some`: these domains and nothing else.
    pub domains: Option<Vec<DomainRule>>,
}

/// An opened network: `10.1.2.0/24`, `10.1.2.3:5000`, `[fd00::1]:443`, `10.0.0.0/8:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRule {
    /// The addresses.
    pub network: IpNet,
    /// One port, or `None` for all.
    pub port: Option<u16>,
}

/// An allowed domain: `example.com`, `*.example.com`, `git.example.com:22`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRule {
    /// The names.
    pub pattern: DomainPattern,
    /// One port, or `None` for 80 and 443.
    pub port: Option<u16>,
}

/// A rule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network rule {rule:?}: {problem}")]
pub struct RuleError {
    /// As the operator wrote it.
    pub rule: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Why a connection or look-up was refused; the name under which it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blocked {
    /// The address is in a refused range.
    Range(Range),
    /// An address of this machine.
    Host,
    /// DNS to anyone but our resolver.
    ForeignDns,
    /// Not on the allow-list.
    NotAllowed,
    /// The allow-list needs a name, and the connection shows none.
    Nameless,
    /// Too many look-ups, or of a type that only tunnels use.
    DnsAbuse,
}

impl Blocked {
    /// Name in counters and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Range(range) => range.as_str(),
            Self::Host => "host",
            Self::ForeignDns => "foreign_dns",
            Self::NotAllowed => "not_on_allow_list",
            Self::Nameless => "no_server_name",
            Self::DnsAbuse => "dns_abuse",
        }
    }
}

/// What to do with a new connection, before its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Connect to the address as given.
    Connect,
    /// Read the name the client asks for, then decide with [`EgressPolicy::names`].
    NeedsName,
    /// Refuse.
    Refuse(Blocked),
}

impl EgressPolicy {
    /// Decides on a destination address. `local` tells whether it is an address of this machine.
    pub fn address(&self, to: SocketAddr, local: impl Fn(IpAddr) -> bool) -> Decision {
        let ip = to.ip();
        if self.opened(to) {
            return Decision::Connect;
        }
        let inside = ranges::refused(ip).map(Blocked::Range);
        if let Some(inside) = inside.or_else(|| local(ip).then_some(Blocked::Host)) {
            // Its name decides, and the connection goes where *we* resolve that name to.
            let trusted = self.trusted.iter().any(|rule| rule.port_matches(to.port()));
            return if trusted { Decision::NeedsName } else { Decision::Refuse(inside) };
        }
        if DNS_PORTS.contains(&to.port()) {
            return Decision::Refuse(Blocked::ForeignDns);
        }
        match &self.domains {
            None => Decision::Connect,
            Some(rules) if rules.iter().any(|rule| rule.port_matches(to.port())) => {
                Decision::NeedsName
            }
            Some(_) => Decision::Refuse(Blocked::NotAllowed),
        }
    }

    /// Whether an operator's network rule opens the destination. Also what decides on the addresses
    /// that a name resolves to.
    pub fn opened(&self, to: SocketAddr) -> bool {
        self.networks.iter().any(|rule| {
            rule.network.contains(&to.ip()) && rule.port.is_none_or(|port| port == to.port())
        })
    }

    /// Whether a connection to `port` may be made to `name`.
    pub fn names(&self, name: &Domain, port: u16) -> bool {
        let Some(rules) = &self.domains else { return true };
        let mut rules = rules.iter().chain(&self.trusted);
        rules.any(|rule| rule.port_matches(port) && rule.pattern.matches(name))
    }

    /// Whether `name` may be looked up at all: under an allow-list other names would be a way out.
    pub fn resolves(&self, name: &Domain) -> bool {
        let Some(rules) = &self.domains else { return true };
        rules.iter().chain(&self.trusted).any(|rule| rule.pattern.matches(name))
    }

    /// Whether `name` may lead to an address: a public name must not lead inside (DNS rebinding), nor to
    /// this machine, which `local` tells.
    pub fn answers(&self, name: &Domain, ip: IpAddr, local: impl Fn(IpAddr) -> bool) -> bool {
        let outside = || ranges::refused(ip).is_none() && !local(ip);
        self.networks.iter().any(|rule| rule.network.contains(&ip))
            || self.trusted.iter().any(|rule| rule.pattern.matches(name))
            || outside()
    }
}

impl DomainRule {
    /// Reads `pattern[:port]`.
    ///
    /// # Errors
    /// The pattern or the port is malformed.
    pub fn parse(rule: &str) -> Result<Self, RuleError> {
        let error = |problem: String| RuleError { rule: rule.to_owned(), problem };
        let (pattern, port) = match rule.rsplit_once(':') {
            Some((pattern, port)) => (pattern, Some(parse_port(port).map_err(error)?)),
            None => (rule, None),
        };
        let pattern = DomainPattern::parse(pattern).map_err(|e| error(e.to_string()))?;
        Ok(Self { pattern, port })
    }

    fn port_matches(&self, port: u16) -> bool {
        match self.port {
            Some(own) => own == port,
            None => DEFAULT_DOMAIN_PORTS.contains(&port),
        }
    }
}

impl From<IpAddr> for NetworkRule {
    /// All ports of one address.
    fn from(ip: IpAddr) -> Self {
        Self { network: ip.into(), port: None }
    }
}

impl NetworkRule {
    /// Reads `address`, `network/prefix`, either with `:port`; IPv6 with a port in brackets.
    ///
    /// # Errors
    /// The network or the port is malformed.
    pub fn parse(rule: &str) -> Result<Self, RuleError> {
        let error = |problem: String| RuleError { rule: rule.to_owned(), problem };
        let (network, port) = if let Some(rest) = rule.strip_prefix('[') {
            let (network, port) = rest
                .split_once(']')
                .ok_or_else(|| error("the '[' has no ']'; write [2001:db8::1]:443".into()))?;
            (network, port.strip_prefix(':'))
        } else if rule.matches(':').count() == 1 {
            let (network, port) = rule.split_once(':').unwrap_or((rule, ""));
            (network, Some(port))
        } else {
            (rule, None)
        };
        let port = port.map(parse_port).transpose().map_err(error)?;
        let network = match network.parse::<IpAddr>() {
            Ok(ip) => IpNet::from(ip),
            Err(_) => network.parse::<IpNet>().map_err(|_| {
                error(
                    "not an address or network; write 10.1.2.3, 10.1.2.0/24 or 10.1.2.3:5000"
                        .into(),
                )
            })?,
        };
        Ok(Self { network, port })
    }
}

fn parse_port(port: &str) -> Result<u16, String> {
    match port.parse() {
        Ok(0) | Err(_) => Err(format!("port {port:?} is not a number from 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(networks: &[&str], domains: Option<&[&str]>) -> EgressPolicy {
        EgressPolicy {
            networks: networks.iter().map(|rule| NetworkRule::parse(rule).unwrap()).collect(),
            trusted: Vec::new(),
            domains: domains
                .map(|rules| rules.iter().map(|rule| DomainRule::parse(rule).unwrap()).collect()),
        }
    }

    fn decide(policy: &EgressPolicy, to: &str) -> Decision {
        policy.address(to.parse().unwrap(), |ip| ip == "8.8.4.4".parse::<IpAddr>().unwrap())
    }

    #[test]
    fn by_default_public_tcp_is_open_and_the_rest_refused() {
        let open = policy(&[], None);
        assert_eq!(decide(&open, "8.8.8.8:443"), Decision::Connect);
        assert_eq!(decide(&open, "8.8.8.8:53"), Decision::Refuse(Blocked::ForeignDns));
        assert_eq!(decide(&open, "8.8.8.8:853"), Decision::Refuse(Blocked::ForeignDns));
        assert_eq!(decide(&open, "8.8.4.4:443"), Decision::Refuse(Blocked::Host));
        let metadata = Decision::Refuse(Blocked::Range(Range::Metadata));
        assert_eq!(decide(&open, "169.254.169.254:80"), metadata);
        let private = Decision::Refuse(Blocked::Range(Range::Private));
        assert_eq!(decide(&open, "10.0.0.1:80"), private);
    }

    #[test]
    fn an_opened_network_opens_just_that() {
        let mirror = policy(&["10.0.0.5:5000", "192.168.7.0/24"], None);
        assert_eq!(decide(&mirror, "10.0.0.5:5000"), Decision::Connect);
        assert_ne!(decide(&mirror, "10.0.0.5:22"), Decision::Connect);
        assert_ne!(decide(&mirror, "10.0.0.6:5000"), Decision::Connect);
        assert_eq!(decide(&mirror, "192.168.7.9:1"), Decision::Connect);
        let name = Domain::parse("mirror.lan").unwrap();
        let answers = |policy: &EgressPolicy, ip: &str| {
            policy.answers(&name, ip.parse().unwrap(), |ip| ip.to_string() == "8.8.4.4")
        };
        assert!(answers(&mirror, "192.168.7.9"));
        assert!(!answers(&mirror, "192.168.8.9"));
        assert!(!answers(&mirror, "8.8.4.4"), "a name must not lead to this machine");
    }

    #[test]
    fn a_trusted_name_leads_inside_and_no_other() {
        let mut trusting = policy(&[], None);
        trusting.trusted.push(DomainRule::parse("mirror.lan:5000").unwrap());
        assert_eq!(decide(&trusting, "10.0.0.5:5000"), Decision::NeedsName);
        assert_ne!(decide(&trusting, "10.0.0.5:22"), Decision::NeedsName);
        let inside: IpAddr = "10.0.0.5".parse().unwrap();
        let answers =
            |name: &str| trusting.answers(&Domain::parse(name).unwrap(), inside, |_| false);
        assert!(answers("mirror.lan"));
        assert!(!answers("evil.example"));
    }

    #[test]
    fn an_allow_list_needs_a_name_on_its_ports() {
        let list = policy(&[], Some(&["example.com", "*.git.example:22"]));
        assert_eq!(decide(&list, "8.8.8.8:443"), Decision::NeedsName);
        assert_eq!(decide(&list, "8.8.8.8:22"), Decision::NeedsName);
        assert_eq!(decide(&list, "8.8.8.8:8080"), Decision::Refuse(Blocked::NotAllowed));
        let name = |name| Domain::parse(name).unwrap();
        assert!(list.names(&name("example.com"), 443));
        assert!(!list.names(&name("example.com"), 22));
        assert!(list.names(&name("a.git.example"), 22));
        assert!(!list.names(&name("evil.com"), 443));
        assert!(!list.resolves(&name("evil.com")));
        let nothing = policy(&[], Some(&[]));
        assert_eq!(decide(&nothing, "8.8.8.8:443"), Decision::Refuse(Blocked::NotAllowed));
    }

    #[test]
    fn rules_name_what_is_wrong_with_them() {
        for rule in ["10.0.0.0/33", "nope", "10.0.0.1:0", "[::1", "10.0.0.1:99999"] {
            assert!(NetworkRule::parse(rule).unwrap_err().to_string().contains(rule), "{rule}");
        }
        assert_eq!(NetworkRule::parse("[fd00::1]:443").unwrap().port, Some(443));
        assert_eq!(NetworkRule::parse("fd00::/8").unwrap().port, None);
        assert!(DomainRule::parse("a..b").is_err());
    }
}

//! What jobs may reach over the network, as the operator of this machine says.

use std::net::{IpAddr, SocketAddr};

use microvm::net::{DomainRule, EgressPolicy, NetworkRule, RuleError, Upstream};

use super::reader::Reader;
use super::{list, vars};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Settings of the network of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// False: no job gets a network, whatever it asks for.
    pub enabled: bool,
    /// Networks opened although they are private.
    addresses: Vec<ForQueue<NetworkRule>>,
    /// With any for its queue, a job reaches these and nothing else.
    domains: Vec<ForQueue<DomainRule>>,
    /// The registry mirrors, where they are named.
    mirrors: Vec<DomainRule>,
    /// DNS servers; empty = those of the machine.
    dns: Vec<SocketAddr>,
}

/// A rule for one queue, or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ForQueue<T> {
    queue: Option<String>,
    rule: T,
}

impl<T: Clone> ForQueue<T> {
    fn of(rules: &[Self], queue: &str) -> Vec<T> {
        let mine = |rule: &&Self| rule.queue.as_deref().is_none_or(|only| only == queue);
        rules.iter().filter(mine).map(|rule| rule.rule.clone()).collect()
    }
}

impl NetworkConfig {
    pub(super) fn read(reader: &mut Reader<'_>, mirrors: &[String]) -> Self {
        let enabled = match reader.text(&vars::NETWORK).as_str() {
            "auto" => true,
            "none" => false,
            other => {
                reader.mistake(format!("EXECUTOR_NETWORK {other:?} must be auto or none"));
                false
            }
        };
        let mut addresses = rules(reader, &vars::NETWORK_ALLOW_ADDRESSES, NetworkRule::parse);
        let domains = rules(reader, &vars::NETWORK_ALLOW_DOMAINS, DomainRule::parse);
        let mut named = Vec::new();
        for mirror in mirrors {
            // A mistake in the mirror's own setting is reported where that is read.
            let Ok(url) = url::Url::parse(mirror) else { continue };
            let Some((host, port)) = url.host_str().zip(url.port_or_known_default()) else {
                continue;
            };
            let text = format!("{host}:{port}");
            match (NetworkRule::parse(&text), DomainRule::parse(&text)) {
                (Ok(rule), _) => addresses.push(ForQueue { queue: None, rule }),
                (Err(_), Ok(rule)) => named.push(rule),
                (Err(_), Err(_)) => {}
            }
        }
        let mut dns = Vec::new();
        for server in list(&reader.text(&vars::NETWORK_DNS)) {
            let address = server.parse::<SocketAddr>();
            match address.or_else(|_| server.parse::<IpAddr>().map(|ip| (ip, 53).into())) {
                Ok(address) => dns.push(address),
                Err(_) => reader.mistake(format!(
                    "invalid address {server:?} in EXECUTOR_NETWORK_DNS: write 10.0.0.2 or 10.0.0.2:53"
                )),
            }
        }
        Self { enabled, addresses, domains, mirrors: named, dns }
    }

    /// What a job of `queue` may reach: what its instance allows, as this machine's operator narrows it
    /// (domains) or opens it (addresses).
    ///
    /// # Errors
    /// A rule of the instance cannot be read.
    pub fn policy(
        &self,
        queue: &str,
        addresses: &[String],
        domains: Option<&[String]>,
    ) -> Result<EgressPolicy, RuleError> {
        let mut networks = ForQueue::of(&self.addresses, queue);
        for rule in addresses {
            networks.push(NetworkRule::parse(rule)?);
        }
        let own = ForQueue::of(&self.domains, queue);
        let domains = match domains {
            _ if !own.is_empty() => Some(own),
            Some(rules) => {
                Some(rules.iter().map(|rule| DomainRule::parse(rule)).collect::<Result<_, _>>()?)
            }
            None => None,
        };
        Ok(EgressPolicy { networks, trusted: self.mirrors.clone(), domains })
    }

    /// The DNS servers that our resolver asks.
    pub fn upstream(&self) -> Upstream {
        if self.dns.is_empty() {
            Upstream::from_resolv_conf(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
        } else {
            Upstream { servers: self.dns.clone() }
        }
    }
}

/// `rule` or `queue=rule`, separated by commas.
fn rules<T>(
    reader: &mut Reader<'_>,
    var: &vars::Var,
    parse: impl Fn(&str) -> Result<T, RuleError>,
) -> Vec<ForQueue<T>> {
    let mut rules = Vec::new();
    for text in list(&reader.text(var)) {
        let (queue, rule) = match text.split_once('=') {
            Some((queue, rule)) => (Some(queue.to_owned()), rule),
            None => (None, text.as_str()),
        };
        if let Some(queue) = queue.as_ref().filter(|name| !super::QUEUES.contains(&name.as_str())) {
            reader.mistake(format!("unknown queue {queue:?} in {}", var.name));
        }
        match parse(rule) {
            Ok(rule) => rules.push(ForQueue { queue, rule }),
            Err(error) => reader.mistake(format!("{}: {error}", var.name)),
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(
        env: &[(&'static str, &'static str)],
        mirrors: &[&str],
    ) -> (NetworkConfig, Vec<String>) {
        let env: BTreeMap<_, _> = env.iter().copied().collect();
        let mut reader = Reader::new(&env);
        let mirrors: Vec<String> = mirrors.iter().map(|&url| url.to_owned()).collect();
        let config = NetworkConfig::read(&mut reader, &mirrors);
        (config, reader.mistakes)
    }

    #[test]
    fn rules_are_for_one_queue_or_for_all() {
        let (config, mistakes) = read(
            &[
                ("EXECUTOR_NETWORK_ALLOW_ADDRESSES", "10.0.0.5:5000, codeintel=10.1.0.0/16"),
                ("EXECUTOR_NETWORK_ALLOW_DOMAINS", "jobs=*.example.com"),
            ],
            &["http://192.168.1.1:5000", "https://mirror.lan"],
        );
        assert_eq!(mistakes, [] as [String; 0]);
        let site = ["172.16.0.1".to_owned()];
        let codeintel = config.policy("codeintel", &site, None).unwrap();
        assert_eq!(codeintel.networks.len(), 4);
        assert_eq!(codeintel.trusted, [DomainRule::parse("mirror.lan:443").unwrap()]);
        assert_eq!(codeintel.domains, None);
        let theirs = ["a.example".to_owned()];
        let jobs = config.policy("jobs", &[], Some(&theirs)).unwrap();
        assert_eq!(jobs.networks.len(), 2);
        assert_eq!(jobs.domains, Some(vec![DomainRule::parse("*.example.com").unwrap()]));
        let batches = config.policy("batches", &[], Some(&theirs)).unwrap();
        assert_eq!(batches.domains, Some(vec![DomainRule::parse("a.example").unwrap()]));
        assert!(config.policy("batches", &["nonsense".to_owned()], None).is_err());
    }

    #[test]
    fn mistakes_name_variable_and_rule() {
        let (_, mistakes) = read(
            &[
                ("EXECUTOR_NETWORK", "on"),
                ("EXECUTOR_NETWORK_ALLOW_ADDRESSES", "10.0.0.0/33,nope=10.0.0.1"),
                ("EXECUTOR_NETWORK_DNS", "dns.example"),
            ],
            &[],
        );
        let text = mistakes.join("\n");
        for expected in ["EXECUTOR_NETWORK \"on\"", "10.0.0.0/33", "\"nope\"", "\"dns.example\""] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
    }
}

//! What jobs may reach over the network, queue by queue.
//!
//! The executor enforces it and has the last word on a rule; what is checked here is what an admin can
//! mistype.

use std::net::IpAddr;

use ipnet::IpNet;
use protocol::ext::JobExtensions;
use serde::Deserialize;
use store::policy::{BATCHES, CODEINTEL, JOBS};
use url::Host;

/// Whether a job has a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkAccess {
    /// It has none; the instance is still reached, by another way.
    None,
    /// Outgoing TCP connections and look-ups of names, within the rules of the queue.
    Egress,
}

impl NetworkAccess {
    /// As written in job files and in the site configuration.
    pub const NAMES: [&str; 2] = ["none", "egress"];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Egress => "egress",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Egress].into_iter().find(|access| access.as_str() == name)
    }
}

/// The network of every queue.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Queue `batches`.
    pub batches: QueueNetwork,
    /// Queue `codeintel`.
    pub codeintel: QueueNetwork,
    /// Queue `jobs`.
    pub jobs: QueueNetwork,
}

/// The network of one queue's jobs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueNetwork {
    /// For jobs that do not say; `None` = as the queue always had it.
    pub default: Option<NetworkAccess>,
    /// Private networks that are opened.
    pub allow_addresses: Vec<String>,
    /// Where set, these domains and no others.
    pub allow_domains: Option<Vec<String>>,
}

impl QueueNetwork {
    fn new(default: NetworkAccess) -> Self {
        Self { default: Some(default), ..Self::default() }
    }
}

impl Default for Network {
    /// Indexers and batch changes fetch packages and always could; other jobs ask for it.
    fn default() -> Self {
        Self {
            batches: QueueNetwork::new(NetworkAccess::Egress),
            codeintel: QueueNetwork::new(NetworkAccess::Egress),
            jobs: QueueNetwork::new(NetworkAccess::None),
        }
    }
}

impl Network {
    /// Writes what a job of `queue` may reach into the document for its executor; what the job itself
    /// asked for is in there.
    pub fn apply(&self, queue: &str, job: &mut JobExtensions) {
        let usual = Self::default();
        let (rules, usual) = match queue {
            BATCHES => (&self.batches, &usual.batches),
            CODEINTEL => (&self.codeintel, &usual.codeintel),
            JOBS => (&self.jobs, &usual.jobs),
            _ => return,
        };
        job.network_optional = job.network.is_empty();
        if job.network_optional {
            let default = rules.default.or(usual.default).unwrap_or(NetworkAccess::None);
            default.as_str().clone_into(&mut job.network);
        }
        job.network_addresses.clone_from(&rules.allow_addresses);
        job.network_domains.clone_from(&rules.allow_domains);
    }
}

/// Checks one entry of `allowAddresses`: `10.1.2.3`, `10.1.2.0/24`, `10.1.2.3:5000`, `[fd00::1]:443`.
///
/// # Errors
/// What to write instead.
pub fn check_address(rule: &str) -> Result<(), String> {
    let (network, port) = match rule.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((network, "")) => (network, None),
        Some((network, rest)) => (network, Some(rest.strip_prefix(':').unwrap_or(rest))),
        None if rule.matches(':').count() == 1 => {
            rule.split_once(':').map_or((rule, None), |(network, port)| (network, Some(port)))
        }
        None => (rule, None),
    };
    let network_fits = network.parse::<IpAddr>().is_ok() || network.parse::<IpNet>().is_ok();
    if network_fits && port.is_none_or(is_port) {
        Ok(())
    } else {
        Err("must be an address or network such as \"10.1.2.3\", \"10.1.2.0/24\" or \"10.1.2.3:5000\"".to_owned())
    }
}

/// Checks one entry of `allowDomains`: `example.com`, `*.example.com`, `example.com:22`.
///
/// # Errors
/// What to write instead.
pub fn check_domain(rule: &str) -> Result<(), String> {
    let (name, port) = match rule.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (rule, None),
    };
    let name = name.strip_prefix("*.").unwrap_or(name);
    let is_name = !name.contains('*') && matches!(Host::parse(name), Ok(Host::Domain(_)));
    if is_name && port.is_none_or(is_port) {
        Ok(())
    } else {
        Err("must be a domain such as \"example.com\", \"*.example.com\" or \"example.com:22\""
            .to_owned())
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site_config::parse::parse;

    #[test]
    fn a_job_gets_its_wish_or_the_default_and_always_the_rules_of_its_queue() {
        let config = parse(
            r#"{"executors.network": {"jobs": {"allowAddresses": ["10.0.0.5:5000"], "allowDomains": []},
                "batches": {"default": "none"}}}"#,
        )
        .unwrap();
        let given = |queue: &str, ask: &str| {
            // What a job file cannot say is not believed when it is in the stored document.
            let mut job = JobExtensions {
                network: ask.to_owned(),
                network_addresses: vec!["0.0.0.0/0".to_owned()],
                ..JobExtensions::default()
            };
            config.network.apply(queue, &mut job);
            job
        };
        let job = given(JOBS, "");
        assert_eq!((job.network.as_str(), job.network_optional), ("none", true));
        let job = given(JOBS, "egress");
        assert_eq!((job.network.as_str(), job.network_optional), ("egress", false));
        assert_eq!(job.network_addresses, ["10.0.0.5:5000"]);
        assert_eq!(job.network_domains, Some(vec![]));
        assert_eq!(given(BATCHES, "").network, "none");
        let job = given(CODEINTEL, "");
        assert_eq!((job.network.as_str(), job.network_optional), ("egress", true));
        assert!(job.network_addresses.is_empty() && job.network_domains.is_none());
    }

    #[test]
    fn mistakes_have_their_place() {
        let text = "{\"executors.network\": {\"jobs\": {\n\"default\": \"all\",\n\"allowAddresses\": [\"10.0.0.1\", \"10.0.0.0/33\"],\n\
                    \"allowDomains\": [7, \"a.*.b\"]}}}";
        let problems = parse(text).unwrap_err().to_string();
        let lines: Vec<&str> =
            problems.lines().map(|line| line.split(": must").next().unwrap()).collect();
        assert_eq!(
            lines,
            [
                "line 2, column 12: executors.network.jobs.default",
                "line 3, column 32: executors.network.jobs.allowAddresses[1]",
                "line 4, column 18: executors.network.jobs.allowDomains[0]",
                "line 4, column 21: executors.network.jobs.allowDomains[1]",
            ]
        );
    }

    #[test]
    fn rules_are_told_from_mistakes() {
        for good in
            ["10.1.2.3", "10.0.0.0/8", "10.0.0.0/8:80", "fd00::1", "fd00::/8", "[fd00::1]:443"]
        {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in ["", "10.0.0.1:0", "10.0.0.1:x", "example.com", "[fd00::1]443x", "10.0.0.0/33"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
        for good in ["example.com", "*.example.com", "example.com:22", "bücher.example"] {
            assert_eq!(check_domain(good), Ok(()), "{good}");
        }
        for bad in ["", "*", "*.*.a", "10.0.0.1", "a b", "https://a.example", "a.example:99999"] {
            assert!(check_domain(bad).is_err(), "{bad}");
        }
    }
}

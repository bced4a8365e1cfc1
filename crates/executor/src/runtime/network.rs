//! The network of a job's machine: made before it, watched while it runs, removed after it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use microvm::RunDirs;
use microvm::net::{self, EgressPolicy, Network, NetworkError, NetworkUsage, Upstream};
use sha2::{Digest as _, Sha256};
use tokio::task::AbortHandle;

use crate::metrics::Metrics;

/// Time between two looks whether the rules still stand.
const WATCH: Duration = Duration::from_secs(5);

/// Makes networks for one executor, under names that tell whose they are.
pub(super) struct Networks {
    /// Shared by all executors of this state directory, living or dead.
    prefix: String,
    owner: String,
    upstream: Upstream,
    /// Why there are none.
    problem: Option<String>,
}

/// A network with its machine's life time.
pub struct MachineNetwork {
    network: Option<Arc<Network>>,
    watch: AbortHandle,
}

impl Networks {
    /// Tries whether networks can be made here, unless the operator wants none.
    pub(super) async fn open(
        state_dir: &Path,
        owner: &str,
        wanted: bool,
        upstream: Upstream,
    ) -> Self {
        let hash = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
        let prefix = format!("executor-{}-", hex::encode(&hash[..4]));
        let mut networks = Self { prefix, owner: owner.to_owned(), upstream, problem: None };
        networks.problem = if wanted {
            networks.trial().await.err().map(|error| error.to_string())
        } else {
            Some("EXECUTOR_NETWORK=none".to_owned())
        };
        networks
    }

    async fn trial(&self) -> Result<(), NetworkError> {
        let name = self.name("trial");
        let network =
            Network::create(&name, EgressPolicy::default(), self.upstream.clone()).await?;
        network.remove().await
    }

    fn name(&self, machine: &str) -> String {
        format!("{}{}-{machine}", self.prefix, self.owner)
    }

    /// Why jobs have no network here; `None` = they can have one.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Makes the network of a machine, with its rules in place.
    pub(super) async fn create(
        &self,
        machine: &str,
        policy: EgressPolicy,
        metrics: &Metrics,
    ) -> Result<MachineNetwork, NetworkError> {
        let network = Network::create(&self.name(machine), policy, self.upstream.clone()).await?;
        Ok(MachineNetwork::watched(network, metrics))
    }

    /// The same for the processes that share the network namespace of `pid`.
    pub(super) async fn of_process(
        &self,
        machine: &str,
        pid: u32,
        policy: EgressPolicy,
        metrics: &Metrics,
    ) -> Result<MachineNetwork, NetworkError> {
        let (name, upstream) = (self.name(machine), self.upstream.clone());
        let network = Network::of_process(&name, pid, policy, upstream).await?;
        Ok(MachineNetwork::watched(network, metrics))
    }

    /// What the names of all executors of this state directory begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether no network of this executor is left.
    pub(super) fn is_empty(&self) -> bool {
        !net::exists(&self.name(""))
    }

    /// Removes the networks of executors that died in this state directory.
    pub(super) async fn reclaim(&self, state_dir: &Path) {
        let owned = |name: &str| {
            let owner =
                name.strip_prefix(&self.prefix).and_then(|rest| rest.get(..self.owner.len()));
            owner.is_none_or(|owner| RunDirs::is_alive(state_dir, owner))
        };
        match net::reclaim(&self.prefix, owned).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(?removed, "removed networks that a dead executor left"),
            Err(error) => tracing::warn!(%error, "networks not reclaimed; tried again later"),
        }
    }
}

impl MachineNetwork {
    /// Looks every now and then whether its rules still stand.
    fn watched(network: Network, metrics: &Metrics) -> Self {
        let network = Arc::new(network);
        let (watched, restored) = (Arc::downgrade(&network), metrics.network_rules_restored());
        let watch = tokio::spawn(async move {
            loop {
                tokio::time::sleep(WATCH).await;
                let Some(network) = watched.upgrade() else { return };
                match network.reconcile().await {
                    Ok(false) => {}
                    Ok(true) => {
                        restored.inc();
                        tracing::warn!(
                            namespace = network.namespace(),
                            "somebody removed the rules of a job's network; they are back"
                        );
                    }
                    Err(error) => tracing::warn!(%error, "rules of a job's network"),
                }
            }
        });
        Self { network: Some(network), watch: watch.abort_handle() }
    }

    /// The network namespace to run the VMM in.
    pub(super) fn namespace(&self) -> &str {
        self.network.as_ref().map_or("", |network| network.namespace())
    }

    /// What the job did so far.
    pub(super) async fn usage(&self) -> NetworkUsage {
        match &self.network {
            Some(network) => network.usage().await,
            None => NetworkUsage::default(),
        }
    }

    /// Removes it from the host; the machine must be gone.
    pub(super) async fn remove(mut self) {
        self.watch.abort();
        if let Some(network) = self.network.take() {
            remove(network).await;
        }
    }
}

impl Drop for MachineNetwork {
    fn drop(&mut self) {
        self.watch.abort();
        // A start that was given up halfway. Without a runtime the process ends, and the next one reclaims.
        if let (Some(network), Ok(runtime)) =
            (self.network.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(remove(network));
        }
    }
}

async fn remove(network: Arc<Network>) {
    if let Err(error) = network.remove().await {
        tracing::warn!(%error, "network not removed; reclaimed when this executor is gone");
    }
}

//! The container engine: Docker Engine or Podman, by the API on its socket. Nothing is run as a command, nothing
//! is kept open between calls.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, ResizeContainerTTYOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt as _;

/// Where engines listen unless `DOCKER_HOST` says otherwise, in the order in which they are tried.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];
/// Time for one answer. Loading an image and following a container take their own time.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Names the state directory whose executor made a container.
pub(super) const STATE_LABEL: &str = "executors.state";
/// Names the executor, see [`microvm::RunDirs::owner`].
pub(super) const OWNER_LABEL: &str = "executors.owner";
/// Names the job's machine.
pub(super) const MACHINE_LABEL: &str = "executors.machine";

/// What the engine could not do.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {}", words(source))]
pub struct EngineError {
    /// What was asked of it.
    pub what: String,
    /// Its answer.
    #[source]
    pub source: Error,
}

/// The engine's own words, without what the library says around them.
fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::RequestTimeoutError => "the engine does not answer".to_owned(),
        other => other.to_string(),
    }
}

impl EngineError {
    /// Whether what was asked for is not there.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.source, Error::DockerResponseServerError { status_code: 404, .. })
    }
}

/// Says what was asked when the engine says no.
pub(super) trait Asked<T> {
    /// `what` is a fragment like `start the agent`.
    fn asked(self, what: impl Into<String>) -> Result<T, EngineError>;
}

impl<T> Asked<T> for Result<T, Error> {
    fn asked(self, what: impl Into<String>) -> Result<T, EngineError> {
        self.map_err(|source| EngineError { what: what.into(), source })
    }
}

/// A connection to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub api: Docker,
    pub description: Description,
}

/// What matters of an engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Description {
    /// Where it listens.
    pub socket: PathBuf,
    /// For example `20.10.24`.
    pub version: String,
    /// Of the program that makes its containers, if it says that it is runc.
    pub runc: String,
    /// The root of a container is another user on the host.
    pub maps_users: bool,
    /// System calls are filtered.
    pub filters_calls: bool,
    /// It can limit what a container writes to its own root.
    pub limits_root: bool,
}

impl Engine {
    /// Connects to the socket of `DOCKER_HOST`, or where engines usually listen.
    ///
    /// # Errors
    /// There is no engine, or it does not answer.
    pub(super) async fn connect(docker_host: &str) -> Result<Self, EngineError> {
        let socket = socket(docker_host);
        let text = socket.display().to_string();
        let what = format!("connect to the container engine at {text}");
        let api = Docker::connect_with_unix(&text, TIMEOUT.as_secs(), API_DEFAULT_VERSION)
            .asked(&what)?;
        let api = api.negotiate_version().await.asked(&what)?;
        let info = api.info().await.asked("describe the engine")?;
        let options = info.security_options.unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option.contains(name));
        let driver = info.driver.unwrap_or_default();
        let quota = matches!(driver.as_str(), "btrfs" | "zfs");
        let version = api.version().await.asked("ask the engine for its version")?;
        let components = version.components.unwrap_or_default();
        let runc = components.into_iter().find(|component| component.name == "runc");
        let description = Description {
            socket,
            version: info.server_version.unwrap_or_default(),
            runc: runc.map(|runc| runc.version).unwrap_or_default(),
            maps_users: has("name=userns") || has("name=rootless"),
            filters_calls: has("name=seccomp"),
            limits_root: quota,
        };
        Ok(Self { api, description })
    }

    /// One that is not there, for tests of what is asked of it.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        let api = Docker::connect_with_unix("/", 1, API_DEFAULT_VERSION);
        Self { api: api.expect("nothing is sent"), description: Description::default() }
    }

    /// The same with so much time for an answer.
    pub(super) fn patient(&self, time: Duration) -> Docker {
        self.api.clone().with_timeout(time)
    }

    /// The host as containers reach it: the gateway of the engine's own bridge, else the address that this
    /// machine sends from.
    pub(super) async fn host_address(&self) -> Option<IpAddr> {
        let bridge = self
            .api
            .inspect_network("bridge", None)
            .await
            .ok()
            .and_then(|bridge| bridge.ipam?.config?.first()?.gateway.as_ref()?.parse().ok());
        bridge.or_else(|| {
            // Connecting a datagram socket sends nothing.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
            socket.local_addr().ok().map(|address| address.ip())
        })
    }

    /// Makes a container.
    pub(super) async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<Container, EngineError> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let made = self.api.create_container(Some(options), body).await;
        let made = made.asked(format!("make the container {name}"))?;
        Ok(Container { engine: self.clone(), id: made.id })
    }

    /// All containers with a label of this value, running or not.
    pub(super) async fn labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = HashMap::from([("label", vec![format!("{label}={value}")])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        self.api.list_containers(Some(options)).await.asked("list containers")
    }
}

/// A container of ours. It stays until it is removed.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub engine: Engine,
    pub id: String,
}

impl Container {
    /// Starts it.
    pub(super) async fn start(&self) -> Result<(), EngineError> {
        self.engine.api.start_container(&self.id, None).await.asked("start the container")
    }

    /// How it is now.
    pub(super) async fn inspect(
        &self,
        size: bool,
    ) -> Result<ContainerInspectResponse, EngineError> {
        let options = InspectContainerOptions { size };
        let inspected = self.engine.api.inspect_container(&self.id, Some(options)).await;
        inspected.asked("look at the container")
    }

    /// Whether it runs, as far as the engine tells.
    pub(super) async fn is_running(&self) -> bool {
        let state = self.inspect(false).await.ok().and_then(|found| found.state);
        state.and_then(|state| state.running).unwrap_or(false)
    }

    /// Sends a signal to its first process; one that ended is fine.
    pub(super) async fn signal(&self, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let sent = self.engine.api.kill_container(&self.id, Some(options)).await;
        unless_over(sent.asked("stop the container"))
    }

    /// Sets the size of its terminal; one that ended is fine.
    pub(super) async fn resize(&self, columns: u16, rows: u16) -> Result<(), EngineError> {
        let options = ResizeContainerTTYOptionsBuilder::new().w(columns.into()).h(rows.into());
        let resized = self.engine.api.resize_container_tty(&self.id, options.build()).await;
        unless_over(resized.asked("resize the terminal"))
    }

    /// Waits until it does not run.
    pub(super) async fn ended(&self) -> Result<(), EngineError> {
        let mut waiting = Box::pin(self.engine.api.wait_container(&self.id, None));
        match waiting.next().await {
            // The library takes every exit code but 0 for an error.
            None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => Err(error).asked("wait for the container"),
        }
    }

    /// Kills and removes it; absent is fine.
    pub(super) async fn remove(&self) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.engine.api.remove_container(&self.id, Some(options)).await;
        unless_over(removed.asked("remove the container"))
    }
}

/// A container that is not there, does not run, or that somebody else is removing, is as it should be.
fn unless_over(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(EngineError {
            source: Error::DockerResponseServerError { status_code: 404 | 409, .. },
            ..
        }) => Ok(()),
        other => other,
    }
}

fn socket(docker_host: &str) -> PathBuf {
    if let Some(path) = docker_host.strip_prefix("unix://") {
        return PathBuf::from(path);
    }
    let found = SOCKETS.iter().map(Path::new).find(|path| path.exists());
    found.unwrap_or(Path::new(SOCKETS[0])).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_that_of_docker_host() {
        assert_eq!(socket("unix:///run/x.sock"), Path::new("/run/x.sock"));
        assert!(SOCKETS.map(Path::new).contains(&socket("").as_path()));
    }
}

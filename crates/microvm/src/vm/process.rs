//! The process of a VMM: our child, or one that its jailer started.

use tokio::process::Child;

use crate::cgroup::Cgroups;
use crate::firecracker::jail::Jailed;

/// Killed when dropped.
pub enum Process {
    /// QEMU, and its cgroups where it has any. They are removed after it was killed.
    Child(Child, Option<Cgroups>),
    /// Firecracker.
    Jailed(Jailed),
}

impl Process {
    /// Waits until it ended, and tells how; any number of times.
    pub async fn wait(&mut self) -> String {
        match self {
            Self::Child(child, _) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            Self::Jailed(jailed) => {
                jailed.wait().await;
                "Firecracker ended: the guest reset itself, or something killed the VMM".to_owned()
            }
        }
    }

    /// Its id; `None` if it ended and was reaped.
    pub fn id(&self) -> Option<i32> {
        match self {
            Self::Child(child, _) => child.id().and_then(|id| i32::try_from(id).ok()),
            Self::Jailed(jailed) => Some(jailed.id()),
        }
    }

    /// Whether it reached its memory limit on the host, and was killed for it.
    pub fn ran_out_of_memory(&self) -> bool {
        match self {
            Self::Child(_, cgroups) => cgroups.as_ref().is_some_and(Cgroups::ran_out_of_memory),
            Self::Jailed(jailed) => jailed.cgroups().ran_out_of_memory(),
        }
    }

    /// Kills and reaps it. Its guest owns nothing that would need a gentler end.
    pub async fn kill(&mut self) {
        match self {
            Self::Child(child, _) => {
                if let Err(error) = child.kill().await {
                    tracing::warn!(%error, "VMM not killed");
                }
            }
            Self::Jailed(jailed) => jailed.kill().await,
        }
    }
}

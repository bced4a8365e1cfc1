//! The process of a VMM: our child, or one that its jailer started.

use tokio::process::Child;

use crate::firecracker::jail::Jailed;

/// Killed when dropped.
pub enum Process {
    /// QEMU.
    Child(Child),
    /// Firecracker.
    Jailed(Jailed),
}

impl Process {
    /// Waits until it ended, and tells how; any number of times.
    pub async fn wait(&mut self) -> String {
        match self {
            Self::Child(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            Self::Jailed(jailed) => {
                jailed.wait().await;
                "Firecracker ended: the guest reset itself, or something killed the VMM".to_owned()
            }
        }
    }

    /// Kills and reaps it. Its guest owns nothing that would need a gentler end.
    pub async fn kill(&mut self) {
        match self {
            Self::Child(child) => {
                if let Err(error) = child.kill().await {
                    tracing::warn!(%error, "VMM not killed");
                }
            }
            Self::Jailed(jailed) => jailed.kill().await,
        }
    }
}

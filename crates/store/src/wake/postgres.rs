//! Wake-ups between replicas, over LISTEN/NOTIFY.
//!
//! Sent after the commit by a task of its own, many topics in one notification: `NOTIFY` inside a
//! transaction would make all commits of the database wait for each other. A lost notification costs
//! a few seconds, see [`super`].

use std::convert::Infallible;
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::postgres::PgListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Topic, Wake};

const CHANNEL: &str = "executors_wake";
/// PostgreSQL refuses payloads of 8000 bytes and more.
const MAX_PAYLOAD: usize = 7900;
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// The two tasks that carry topics out and in; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Bridge {
    outgoing: mpsc::UnboundedSender<String>,
    tasks: [JoinHandle<()>; 2],
}

impl Bridge {
    /// Listens before it returns, so that nothing is missed that happens afterwards.
    pub(crate) async fn start(url: &str, pool: AnyPool, wake: Wake) -> Result<Self, sqlx::Error> {
        // Our own notifications come back to us; the origin lets us tell them apart.
        let origin = uuid::Uuid::new_v4().simple().to_string();
        let (outgoing, topics) = mpsc::unbounded_channel();
        let listener = listen(url).await?;
        let sender = tokio::spawn(send_all(topics, pool, origin.clone()));
        let receiver = tokio::spawn(receive_all(listener, url.to_owned(), wake, origin));
        Ok(Self { outgoing, tasks: [sender, receiver] })
    }

    pub(crate) fn send(&self, topic: &Topic) {
        // Fails only while the store is being dropped.
        let _ = self.outgoing.send(topic.to_line());
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn send_all(mut topics: mpsc::UnboundedReceiver<String>, pool: AnyPool, origin: String) {
    while let Some(first) = topics.recv().await {
        let mut batch = vec![first];
        while let Ok(topic) = topics.try_recv() {
            batch.push(topic);
        }
        batch.sort_unstable();
        // Each ready job wakes one executor, so these are not the same said twice.
        batch.dedup_by(|a, b| a == b && !a.starts_with("queue "));
        let mut payload = origin.clone();
        for topic in batch {
            if payload.len() + topic.len() >= MAX_PAYLOAD {
                notify(&pool, &payload).await;
                payload = origin.clone();
            }
            payload.push('\n');
            payload.push_str(&topic);
        }
        notify(&pool, &payload).await;
    }
}

async fn notify(pool: &AnyPool, payload: &str) {
    let sent = sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)")
        .bind(CHANNEL)
        .bind(payload)
        .execute(pool)
        .await;
    if let Err(error) = sent {
        tracing::warn!(%error, "failed to wake other replicas; they look again by themselves");
    }
}

async fn listen(url: &str) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

async fn receive_all(mut listener: PgListener, url: String, wake: Wake, origin: String) {
    loop {
        let Err(error) = receive(&mut listener, &wake, &origin).await;
        tracing::warn!(%error, "failed to listen for wake-ups of other replicas; trying again");
        listener = loop {
            tokio::time::sleep(RECONNECT_AFTER).await;
            if let Ok(listener) = listen(&url).await {
                break listener;
            }
        };
        wake.bump_everything();
    }
}

async fn receive(
    listener: &mut PgListener,
    wake: &Wake,
    origin: &str,
) -> Result<Infallible, sqlx::Error> {
    loop {
        // `None` means that the connection was lost and made anew.
        let Some(notification) = listener.try_recv().await? else {
            wake.bump_everything();
            continue;
        };
        let mut lines = notification.payload().lines();
        if lines.next() == Some(origin) {
            continue;
        }
        lines.filter_map(Topic::from_line).for_each(|topic| wake.bump(&topic));
    }
}

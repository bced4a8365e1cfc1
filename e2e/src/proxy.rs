//! A TCP proxy that misbehaves on request: the network between an executor and its instance.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// They pass.
    Fair,
    /// Each chunk comes this much later.
    Slow(Duration),
    /// Connections stay open and nothing passes: a cable pulled out. What was sent arrives when it is back.
    Silent,
    /// Open connections are closed, new ones too: a firewall that says no.
    Closed,
}

/// The proxy. It ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: AbortHandle,
}

impl Proxy {
    /// Listens on a free port of the loopback and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (weather, seen) = watch::channel(Weather::Fair);
        let task = tokio::spawn(accept(listener, target, seen)).abort_handle();
        Self { address, weather, task }
    }

    /// Where it listens, as a base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what happens from now on, on open connections too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.weather.send_replace(Weather::Closed);
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: watch::Receiver<Weather>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        tokio::spawn(carry(client, target, weather.clone()));
    }
}

async fn carry(client: TcpStream, target: SocketAddr, weather: watch::Receiver<Weather>) {
    if *weather.borrow() == Weather::Closed {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let mut closing = weather.clone();
    tokio::select! {
        () = both(pump(client_in, server_out, weather.clone()), pump(server_in, client_out, weather)) => {}
        _ = closing.wait_for(|weather| *weather == Weather::Closed) => {}
    }
}

async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::join!(one, other);
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let Ok(now) = weather.wait_for(|weather| *weather != Weather::Silent).await.map(|now| *now)
        else {
            return;
        };
        if let Weather::Slow(delay) = now {
            crate::wait::pass(delay).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await; // the other side may be gone already
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address).await.unwrap()
    }

    #[tokio::test]
    async fn silence_holds_bytes_back_and_then_delivers_them() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = connect(&proxy).await;
        stream.write_all(b"one").await.unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).await.unwrap();

        proxy.set(Weather::Silent);
        stream.write_all(b"two").await.unwrap();
        let early =
            tokio::time::timeout(Duration::from_millis(300), stream.read(&mut answer)).await;
        assert!(early.is_err(), "bytes passed a silent network");

        proxy.set(Weather::Fair);
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"two");
    }

    #[tokio::test]
    async fn closing_ends_open_connections_and_refuses_new_ones() {
        let proxy = Proxy::start(echo().await).await;
        let mut open = connect(&proxy).await;
        open.write_all(b"one").await.unwrap();
        let mut answer = [0; 3];
        open.read_exact(&mut answer).await.unwrap();

        proxy.set(Weather::Closed);
        let ended = tokio::time::timeout(Duration::from_secs(5), open.read(&mut answer)).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "an open connection survived: {ended:?}");
        let mut new = connect(&proxy).await;
        let refused = tokio::time::timeout(Duration::from_secs(5), new.read(&mut answer)).await;
        assert!(matches!(refused, Ok(Ok(0) | Err(_))), "a new connection was served: {refused:?}");
    }
}

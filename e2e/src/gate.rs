//! A way from executors to their instance that can be closed in the middle of one request: what is under way
//! at that moment stays under way until the gate is opened, or until the executor is gone.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Where it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Before a request that has this text in it: it never arrives.
    Request(&'static str),
    /// In the answer to such a request, after so many bytes of it.
    Answer(&'static str, u64),
}

/// The gate; open at first. Connections end when it is dropped.
pub struct Gate {
    address: SocketAddr,
    closed: watch::Sender<Option<Closed>>,
    holding: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Gate {
    /// Listens on a free port of the loopback and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (closed, seen) = watch::channel(None);
        let holding = Arc::new(AtomicU64::new(0));
        let held = Held { closed: seen, holding: Arc::clone(&holding) };
        let task = tokio::spawn(accept(listener, target, held)).abort_handle();
        Self { address, closed, holding, task }
    }

    /// Where it listens, as a base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port of the loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes it from now on, on open connections too.
    pub fn close(&self, at: Closed) {
        self.holding.store(0, Ordering::SeqCst);
        self.closed.send_replace(Some(at));
    }

    /// Whether something has come to where it is closed.
    pub fn is_holding(&self) -> bool {
        self.holding.load(Ordering::SeqCst) > 0
    }

    /// Opens it: what was held goes on, if both ends are still there.
    pub fn open(&self) {
        self.closed.send_replace(None);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Held {
    closed: watch::Receiver<Option<Closed>>,
    holding: Arc<AtomicU64>,
}

impl Held {
    fn at(&self) -> Option<Closed> {
        *self.closed.borrow()
    }

    /// Waits until the gate is open; `false` if `from` ended before. What comes meanwhile is added to `chunk`.
    async fn wait(&mut self, from: &mut OwnedReadHalf, chunk: &mut Vec<u8>) -> bool {
        self.holding.fetch_add(1, Ordering::SeqCst);
        loop {
            tokio::select! {
                open = self.closed.wait_for(Option::is_none) => return open.is_ok(),
                read = from.read_buf(chunk) => if !matches!(read, Ok(1..)) { return false },
            }
        }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, held: Held) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        tokio::spawn(carry(client, target, held.clone()));
    }
}

async fn carry(client: TcpStream, target: SocketAddr, mut held: Held) {
    let (mut client_in, mut client_out) = client.into_split();
    let mut chunk = Vec::with_capacity(16 << 10);
    // Again when a server lost patience with a held request.
    loop {
        let Ok(server) = TcpStream::connect(target).await else { return };
        let (mut server_in, mut server_out) = server.into_split();
        // How many bytes of answers may still pass.
        let (limit, mut limited) = watch::channel(u64::MAX);
        loop {
            // Whoever ends first ends both: a request whose sender died must not arrive later.
            let seen = tokio::select! {
                seen = requests(&mut client_in, &mut server_out, &mut chunk, held.clone(), &limit) => seen,
                () = answers(&mut server_in, &mut client_out, held.clone(), &mut limited) => return,
            };
            if !seen || !held.wait(&mut client_in, &mut chunk).await {
                return;
            }
            if !matches!(server_in.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
            {
                break;
            }
        }
    }
}

/// Passes requests on, first what is in `chunk`. `true` when the next is the one to be held, which is in `chunk`.
async fn requests(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    chunk: &mut Vec<u8>,
    held: Held,
    limit: &watch::Sender<u64>,
) -> bool {
    // The end of what has passed: a text may come in two pieces.
    let mut passed: Vec<u8> = Vec::new();
    loop {
        if to.write_all(chunk).await.is_err() {
            return false;
        }
        chunk.clear();
        if !matches!(from.read_buf(chunk).await, Ok(1..)) {
            return false;
        }
        let seen = [passed.as_slice(), chunk].concat();
        let text = match held.at() {
            Some(Closed::Request(text)) if has(&seen, text) => return true,
            Some(Closed::Answer(text, bytes)) if has(&seen, text) => {
                limit.send_replace(bytes);
                passed.clear();
                continue;
            }
            Some(Closed::Request(text) | Closed::Answer(text, _)) => text,
            None => "",
        };
        passed = seen[seen.len().saturating_sub(text.len())..].to_vec();
    }
}

async fn answers(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut held: Held,
    limit: &mut watch::Receiver<u64>,
) {
    let mut chunk = Vec::with_capacity(16 << 10);
    let mut left = u64::MAX;
    while let Ok(length @ 1..) = from.read_buf(&mut chunk).await {
        if limit.has_changed().unwrap_or(false) {
            left = *limit.borrow_and_update();
        }
        if held.at().is_none() {
            left = u64::MAX;
        }
        if length as u64 > left && !held.wait(from, &mut chunk).await {
            return;
        }
        left = left.saturating_sub(length as u64);
        if to.write_all(&chunk).await.is_err() {
            return;
        }
        chunk.clear();
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wait::until_true;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that answers each request of ten bytes with a hundred.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while stream.read_exact(&mut [0; 10]).await.is_ok() {
                        stream.write_all(&[b'x'; 100]).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream, request: &str) -> std::io::Result<()> {
        stream.write_all(request.as_bytes()).await?;
        stream.read_exact(&mut [0; 100]).await.map(drop)
    }

    #[tokio::test]
    async fn what_comes_to_the_closed_gate_waits_there_and_the_rest_passes() {
        for closed in [Closed::Request("GET /held"), Closed::Answer("GET /held", 50)] {
            let gate = Gate::start(server().await).await;
            let mut stream = TcpStream::connect(gate.address).await.unwrap();
            gate.close(closed);
            ask(&mut stream, "GET /other").await.unwrap();
            assert!(!gate.is_holding());
            // In two pieces.
            stream.write_all(b"GET /h").await.unwrap();
            let mut held =
                tokio::spawn(async move { ask(&mut stream, "eld ").await.map(|()| stream) });
            until_true("it is held", SOON, async || gate.is_holding()).await;
            let mut other = TcpStream::connect(gate.address).await.unwrap();
            ask(&mut other, "GET /other").await.unwrap();
            assert!(tokio::time::timeout(Duration::from_millis(200), &mut held).await.is_err());
            gate.open();
            let mut stream = held.await.unwrap().unwrap();
            ask(&mut stream, "GET /held ").await.unwrap();
        }
    }
}

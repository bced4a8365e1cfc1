//! Accepts connections and serves them until told to stop.

mod stall;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::App;
use stall::StallTimeout;

/// Connections at a time; the next ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 8192;
/// A client has so long to send the head of its next request; also the idle time of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// A client that takes no bytes for so long is cut off.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests in flight may take so long after the stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves the routes and runs the loops until `shutdown` is cancelled, then drains: nothing new is
/// accepted, held requests are answered at once, the others have ten seconds.
///
/// # Errors
/// When a loop ends by itself: the process must not live on without it.
pub async fn run(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut loops = crate::loops::spawn(&app);
    let router = crate::http::router(Arc::clone(&app));
    tracing::info!(address = %listener.local_addr()?, "listening");
    let stop = app.closing.clone();
    let result = tokio::select! {
        () = serve(listener, router, stop.clone(), shutdown) => Ok(()),
        ended = loops.join_next() => Err(anyhow::anyhow!("a loop ended: {ended:?}")),
    };
    stop.cancel();
    loops.shutdown().await;
    result
}

/// Serves only `/metrics`, without authorization, on an address of its own.
///
/// # Errors
/// When the address of the listener cannot be read.
pub async fn run_metrics(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "listening for metrics");
    let router = crate::http::metrics_router(Arc::clone(&app));
    serve(listener, router, app.closing.clone(), shutdown).await;
    Ok(())
}

async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, peer, slot) = accepted;
        let (router, stop) = (router.clone(), stop.clone());
        tracker.spawn(async move {
            connection(stream, peer, router, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    stop.cancel();
    tracker.close();
    let open = tracker.len();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::warn!(open = tracker.len(), "requests were cut off at shutdown");
    } else {
        tracing::info!(connections = open, "all requests finished");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            // Out of file descriptors, most likely: let some connections end first.
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    // Log lines and held answers are small and must leave at once.
    drop(stream.set_nodelay(true));
    let io = TokioIo::new(StallTimeout::new(stream, STALL_TIMEOUT));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(256 << 10)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that went away: usual, and not ours to report louder.
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

//! Steps reach their instance by `http://instance.internal`, without network and without credentials.

use microvm::GatewayConn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::machine::{Machine, finish, shell};

#[tokio::test(flavor = "multi_thread")]
async fn gateway() {
    let machine = Machine::boot().await;
    let guest = machine.guest().clone();
    let serving = tokio::spawn(async move {
        let mut served = 0;
        while let Some(conn) = guest.next_gateway_conn().await {
            served += 1;
            tokio::spawn(serve(conn));
        }
        served
    });
    let output = machine.run("wget -q -O - http://instance.internal/some/path").await;
    assert_eq!(output.stdout, "GET /some/path HTTP/1.1", "{output:?}");
    let output = machine.run("wget -q -O - http://example.com/").await;
    assert_ne!(output.result.exit_code, Some(0), "there is no other network");
    // More at once than the channel carries: the rest waits its turn.
    let many = "for i in $(seq 1 60); do wget -q -O - http://instance.internal/$i >> all & done; wait; \
                wc -c < all";
    let output = machine.run(many).await;
    let expected: usize = (1..=60).map(|i: u32| format!("GET /{i} HTTP/1.1").len()).sum();
    assert_eq!(output.stdout.trim(), expected.to_string(), "{output:?}");
    // Connections that say nothing hold nobody else up for long: they go with their step.
    let mut idle = machine
        .guest()
        .exec(shell(
            "for i in $(seq 1 50); do nc instance.internal 80 < /dev/zero & done; echo on; wait",
        ))
        .await
        .unwrap();
    idle.next().await.unwrap();
    idle.kill().await.unwrap();
    assert!(finish(idle).await.result.killed);
    let output = machine.run("wget -q -O - http://instance.internal/again").await;
    assert_eq!(output.stdout, "GET /again HTTP/1.1", "{output:?}");
    machine.vm.destroy().await;
    assert!(serving.await.unwrap() >= 62);
}

/// Answers any request with its own first line.
async fn serve(mut conn: GatewayConn) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        match conn.read(&mut buffer).await {
            Ok(length @ 1..) if request.len() < 10_000 => {
                request.extend_from_slice(&buffer[..length])
            }
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", line.len());
    let _ = conn.write_all(format!("{head}{line}").as_bytes()).await;
    let _ = conn.shutdown().await;
}

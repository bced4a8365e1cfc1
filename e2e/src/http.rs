//! HTTP helpers.

use std::net::TcpListener;
use std::sync::Once;
use std::time::Duration;

/// A port of the loopback that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// A client with a time-out and a cookie-less life.
pub fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that another test of this process was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60));
    builder.build().expect("a client without files or addresses cannot fail")
}

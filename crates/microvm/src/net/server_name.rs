//! Reads which server a client asks for, from the first bytes of TLS (the server name of RFC 6066 §3) or
//! HTTP/1 (the `Host` of RFC 9110 §7.2), without answering.

use std::io;

use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::Domain;

/// A client hello and an HTTP head are smaller than this, or not worth carrying.
const HEAD_MAX: usize = 16 * 1024;
/// First byte of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What the client said.
pub(super) enum Seen {
    /// The server, and all bytes read so far, which must be sent on.
    Name(Domain, Vec<u8>),
    /// No name, two names, a malformed one, or another protocol.
    Nothing,
}

/// Reads until the name is known or cannot come any more.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Seen> {
    let mut head = Vec::with_capacity(2048);
    loop {
        let mut buffer = [0; 2048];
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(Seen::Nothing);
        }
        head.extend_from_slice(&buffer[..length]);
        let name = if head[0] == TLS_HANDSHAKE { from_tls(&head) } else { from_http(&head) };
        match name {
            Found::Yes(name) => return Ok(Seen::Name(name, head)),
            Found::No => return Ok(Seen::Nothing),
            Found::NotYet if head.len() >= HEAD_MAX => return Ok(Seen::Nothing),
            Found::NotYet => {}
        }
    }
}

enum Found {
    Yes(Domain),
    No,
    NotYet,
}

fn parsed(name: Option<&str>) -> Found {
    name.and_then(|name| Domain::parse(name).ok()).map_or(Found::No, Found::Yes)
}

fn from_tls(head: &[u8]) -> Found {
    let mut acceptor = Acceptor::default();
    let mut rest = head;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Found::No;
        }
    }
    match acceptor.accept() {
        Ok(None) => Found::NotYet,
        Ok(Some(accepted)) => parsed(accepted.client_hello().server_name()),
        Err(_) => Found::No,
    }
}

fn from_http(head: &[u8]) -> Found {
    let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
        // Bytes that no HTTP head has end the wait at once.
        let text =
            head.iter().all(|b| (0x20..0x7f).contains(b) || matches!(b, b'\r' | b'\n' | b'\t'));
        return if text { Found::NotYet } else { Found::No };
    };
    let Ok(text) = std::str::from_utf8(&head[..end]) else { return Found::No };
    let mut lines = text.split("\r\n");
    // An absolute target would overrule `Host` (RFC 9112 §3.2.2); only proxies get such requests.
    let target = lines.next().and_then(|line| line.split(' ').nth(1));
    if !target.is_some_and(|target| target.starts_with('/')) {
        return Found::No;
    }
    let mut hosts = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => parsed(Some(host.rsplit_once(':').map_or(host, |(name, _)| name))),
        _ => Found::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(head: &str) -> Option<String> {
        match from_http(head.as_bytes()) {
            Found::Yes(name) => Some(name.to_string()),
            _ => None,
        }
    }

    #[test]
    fn the_host_of_a_request_is_read_and_tricks_are_not() {
        let ok = "GET / HTTP/1.1\r\nHost: Example.com:80\r\n\r\n";
        assert_eq!(http(ok).as_deref(), Some("example.com"));
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com\r\nHost: b.com\r\n\r\n",
            "GET http://b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "CONNECT b.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: 8.8.8.8\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.com\0.b.com\r\n\r\n",
        ] {
            assert_eq!(http(head), None, "{head:?}");
        }
        assert!(matches!(from_http(b"GET / HT"), Found::NotYet));
        assert!(matches!(from_http(b"\x00\x01"), Found::No));
    }

    #[test]
    fn the_name_in_a_client_hello_is_read_even_in_pieces() {
        let hello = client_hello("Example.com");
        assert!(matches!(from_tls(&hello[..20]), Found::NotYet));
        let Found::Yes(name) = from_tls(&hello) else { panic!("no name") };
        assert_eq!(name.as_str(), "example.com");
        assert!(matches!(from_tls(&client_hello("192.0.2.9")), Found::No));
    }

    fn client_hello(server: &str) -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = server.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }
}

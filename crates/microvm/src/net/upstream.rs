//! Asking the operator's DNS servers (RFC 1035 §4.2, RFC 7766): UDP first, TCP for what does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Per server and transport.
const TIMEOUT: Duration = Duration::from_secs(3);
/// RFC 6891 §6.2.5 suggests 4096 as the most that a responder sends over UDP.
const DATAGRAM_MAX: usize = 4096;

/// The DNS servers that our resolver asks, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Addresses with port.
    pub servers: Vec<SocketAddr>,
}

impl Upstream {
    /// The servers of a resolv.conf(5); empty when it names none.
    pub fn from_resolv_conf(text: &str) -> Self {
        let servers = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("nameserver"))
            .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
            .map(|ip| SocketAddr::new(ip, 53))
            .collect();
        Self { servers }
    }

    /// Asks one question. The message is made anew from the question alone, so that nothing else of
    /// what a job sent (options, padding, its choice of id) leaves.
    pub(super) async fn ask(&self, question: &Query) -> io::Result<Message> {
        let mut last = io::Error::other("no DNS server is configured");
        for server in &self.servers {
            match self.ask_one(*server, question).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_one(&self, server: SocketAddr, question: &Query) -> io::Result<Message> {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(question.clone());
        let bytes = message.to_vec().map_err(io::Error::other)?;
        let answer = timeout(TIMEOUT, over_udp(server, &bytes, &message)).await??;
        if answer.metadata.truncation {
            return timeout(TIMEOUT, over_tcp(server, &bytes, &message)).await?;
        }
        Ok(answer)
    }
}

async fn over_udp(server: SocketAddr, bytes: &[u8], asked: &Message) -> io::Result<Message> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; DATAGRAM_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // A datagram that does not answer our question is a guess by somebody else: keep waiting.
        if let Some(answer) = answers(&buffer[..length], asked) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8], asked: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    answers(&answer, asked).ok_or_else(|| io::Error::other("the answer is to another question"))
}

fn answers(bytes: &[u8], asked: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == asked.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == asked.queries;
    same.then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_resolv_conf() {
        let text = "# c\nsearch x\nnameserver 10.0.0.2\n nameserver  ::1 \nnameserver nope\n";
        let expected: Vec<SocketAddr> =
            vec!["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
        assert_eq!(Upstream::from_resolv_conf(text).servers, expected);
    }
}

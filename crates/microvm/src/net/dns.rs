//! The resolver a job sees: the only one it can reach, and stricter than most.
//!
//! It forwards single questions of common types, answers nothing under an allow-list but the allowed
//! names, takes addresses of refused ranges out of answers (DNS rebinding), and limits how many names
//! a job can ask for, since every look-up of `<data>.evil.example` carries data out.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::policy::{Blocked, EgressPolicy};
use super::ranges;
use super::{Counts, Domain, Upstream, is_local};

/// Look-ups and different names that a job may ask for in each minute.
const QUERIES_PER_MINUTE: usize = 1200;
const NAMES_PER_MINUTE: usize = 300;
/// Look-ups in flight; more wait.
const CONCURRENCY: usize = 64;
/// Largest answer over UDP; the rest comes over TCP (DNS flag day 2020).
const UDP_ANSWER_MAX: usize = 1232;
/// How long a resolved address stands for its name on ports where no name can be read.
const REMEMBERED: Duration = Duration::from_secs(600);
const REMEMBERED_MAX: usize = 4096;
/// An idle DNS connection is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);

pub(super) struct Resolver {
    policy: EgressPolicy,
    upstream: Upstream,
    counts: Counts,
    flight: Semaphore,
    state: Mutex<State>,
}

struct State {
    minute: Instant,
    queries: usize,
    names: HashSet<Domain>,
    resolved: HashMap<IpAddr, (Domain, Instant)>,
}

impl Resolver {
    pub(super) fn new(policy: EgressPolicy, upstream: Upstream, counts: Counts) -> Self {
        let state = State {
            minute: Instant::now(),
            queries: 0,
            names: HashSet::new(),
            resolved: HashMap::new(),
        };
        let flight = Semaphore::new(CONCURRENCY);
        Self { policy, upstream, counts, flight, state: Mutex::new(state) }
    }

    /// Answers one message; `None` for what is not a query at all.
    async fn answer(&self, bytes: &[u8]) -> Option<Message> {
        let query = Message::from_vec(bytes).ok()?;
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_desired = query.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_queries(query.queries.iter().cloned());
        reply.metadata.response_code = match self.reply(&query, &mut reply).await {
            Ok(code) => code,
            Err(blocked) => {
                self.counts.blocked(blocked);
                ResponseCode::Refused
            }
        };
        Some(reply)
    }

    async fn reply(&self, query: &Message, reply: &mut Message) -> Result<ResponseCode, Blocked> {
        let [question] = query.queries.as_slice() else { return Ok(ResponseCode::FormErr) };
        if query.metadata.op_code != OpCode::Query || question.query_class != DNSClass::IN {
            return Ok(ResponseCode::NotImp);
        }
        let Ok(name) = Domain::parse(&question.name.to_ascii()) else {
            return Ok(ResponseCode::NXDomain);
        };
        match question.query_type {
            RecordType::A | RecordType::AAAA | RecordType::CNAME => {}
            RecordType::MX | RecordType::SRV | RecordType::PTR | RecordType::CAA => {}
            RecordType::NS | RecordType::SOA | RecordType::TXT => {}
            // No HTTPS records: they carry keys that hide the server name (ECH) from the allow-list.
            RecordType::HTTPS | RecordType::SVCB => return Ok(ResponseCode::NoError),
            _ => return Err(Blocked::DnsAbuse),
        }
        if !self.policy.resolves(&name) {
            return Err(Blocked::NotAllowed);
        }
        self.admit(&name)?;
        let Ok(answer) = self.forward(question).await else { return Ok(ResponseCode::ServFail) };
        for record in answer.answers {
            match address(&record.data) {
                Some(ip) if !self.policy.answers(&name, ip, is_local) => {
                    self.counts.blocked(ranges::refused(ip).map_or(Blocked::Host, Blocked::Range));
                }
                Some(ip) => {
                    self.remember(ip, &name);
                    reply.add_answer(record);
                }
                None => {
                    reply.add_answer(record);
                }
            }
        }
        // The SOA lets resolvers cache "no such name" (RFC 2308).
        let soa = |r: &hickory_proto::rr::Record| r.record_type() == RecordType::SOA;
        reply.add_authorities(answer.authorities.into_iter().filter(soa));
        Ok(answer.metadata.response_code)
    }

    async fn forward(&self, question: &Query) -> std::io::Result<Message> {
        let _permit = self.flight.acquire().await.map_err(std::io::Error::other)?;
        self.upstream.ask(question).await
    }

    /// Counts a look-up against the limits.
    fn admit(&self, name: &Domain) -> Result<(), Blocked> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.minute.elapsed() >= Duration::from_secs(60) {
            state.minute = Instant::now();
            state.queries = 0;
            state.names.clear();
        }
        state.queries += 1;
        if state.queries > QUERIES_PER_MINUTE {
            return Err(Blocked::DnsAbuse);
        }
        if !state.names.contains(name) {
            if state.names.len() >= NAMES_PER_MINUTE {
                return Err(Blocked::DnsAbuse);
            }
            state.names.insert(name.clone());
        }
        Ok(())
    }

    fn remember(&self, ip: IpAddr, name: &Domain) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.resolved.len() >= REMEMBERED_MAX {
            state.resolved.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        }
        if state.resolved.len() < REMEMBERED_MAX {
            state.resolved.insert(ip, (name.clone(), Instant::now()));
        }
    }

    /// The name that this job lately resolved to `ip`.
    pub(super) fn name_of(&self, ip: IpAddr) -> Option<Domain> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, since) = state.resolved.get(&ip)?;
        (since.elapsed() < REMEMBERED).then(|| name.clone())
    }

    /// Addresses of `name` that a job may be connected to, IPv4 first: on a host without IPv6 the
    /// other way round would cost a time-out.
    pub(super) async fn addresses(&self, name: &Domain) -> std::io::Result<Vec<IpAddr>> {
        let fqdn = Name::from_ascii(format!("{name}.")).map_err(std::io::Error::other)?;
        let mut addresses = Vec::new();
        for record_type in [RecordType::A, RecordType::AAAA] {
            let answer = self.forward(&Query::query(fqdn.clone(), record_type)).await?;
            addresses.extend(answer.answers.iter().filter_map(|record| address(&record.data)));
        }
        addresses.retain(|ip| self.policy.answers(name, *ip, is_local));
        Ok(addresses)
    }
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

/// Answers datagrams until the socket fails.
pub(super) async fn serve_udp(socket: UdpSocket, resolver: Arc<Resolver>) {
    let socket = Arc::new(socket);
    let slots = Arc::new(Semaphore::new(4 * CONCURRENCY));
    let mut buffer = [0; UDP_ANSWER_MAX];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "receiving a DNS query");
                continue;
            }
        };
        // More in flight than this is a flood: the datagram is dropped, as the network might.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (socket, resolver) = (Arc::clone(&socket), Arc::clone(&resolver));
        let query = buffer[..length].to_vec();
        tokio::spawn(async move {
            reply_udp(&socket, from, &query, &resolver).await;
            drop(slot);
        });
    }
}

async fn reply_udp(socket: &UdpSocket, to: SocketAddr, query: &[u8], resolver: &Resolver) {
    let Some(reply) = resolver.answer(query).await else { return };
    let bytes = match reply.to_vec() {
        Ok(bytes) if bytes.len() <= UDP_ANSWER_MAX => bytes,
        _ => reply.truncate().to_vec().unwrap_or_default(),
    };
    if let Err(error) = socket.send_to(&bytes, to).await {
        tracing::debug!(%error, "answering a DNS query");
    }
}

/// Serves DNS over TCP (RFC 7766) until the listener fails.
pub(super) async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>) {
    let slots = Arc::new(Semaphore::new(CONCURRENCY));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let resolver = Arc::clone(&resolver);
                tokio::spawn(async move {
                    // A broken or idle connection ends; its job sees that.
                    let _ = timeout(6 * TCP_IDLE, serve_stream(stream, &resolver)).await;
                    drop(slot);
                });
            }
            Err(error) => tracing::warn!(%error, "accepting a DNS connection"),
        }
    }
}

async fn serve_stream(mut stream: TcpStream, resolver: &Resolver) -> std::io::Result<()> {
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let Some(reply) = resolver.answer(&query).await else { return Ok(()) };
        let bytes = reply.to_vec().map_err(std::io::Error::other)?;
        let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&bytes).await?;
    }
}

//! Egress with real namespaces, rules and sockets. A namespace stands in for the guest (its end of a veth
//! pair takes the TAP's place), another plays the internet, the metadata service and a private network.
//! Needs root; says so where it has none.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, NULL};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use microvm::net::{
    DomainRule, EgressPolicy, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, GUEST_MAC, GUEST_V4, GUEST_V6,
    Network, NetworkRule, PREFIX_V4, PREFIX_V6, TAP, Upstream, reclaim,
};
use nix::sched::{CloneFlags, setns};

/// A public address that only our own namespace answers.
const PUBLIC: &str = "11.22.33.44";
const PUBLIC_6: &str = "2600:1234::44";
const PRIVATE: &str = "10.77.0.1";
const METADATA: &str = "169.254.169.254";

/// A host of the test, in a namespace of its own; removed on drop, also when the test fails.
struct Host(String);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

impl Host {
    fn new(name: String) -> Self {
        let _ = Command::new("ip").args(["netns", "del", &name]).output();
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self(name)
    }

    /// Runs `work` inside the namespace, on a thread of its own.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let path = format!("/run/netns/{}", self.0);
        std::thread::spawn(move || {
            setns(std::fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
        .join()
        .unwrap()
    }

    /// Connects, sends `say`, returns what came back; an error within two seconds counts as refused.
    fn talk(&self, to: &str, port: u16, say: &'static [u8]) -> Result<String, String> {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.run(move || {
            let limit = Duration::from_secs(2);
            let mut stream =
                TcpStream::connect_timeout(&to, limit).map_err(|e| e.kind().to_string())?;
            stream.set_read_timeout(Some(limit)).unwrap();
            stream.write_all(say).map_err(|e| e.kind().to_string())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map_err(|e| e.kind().to_string())?;
            if answer.is_empty() { Err("empty".into()) } else { Ok(answer) }
        })
    }

    fn look_up(&self, server: IpAddr, name: &str, kind: RecordType) -> Result<Message, String> {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let bytes = query.to_vec().unwrap();
        self.run(move || {
            let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect((server, 53)).map_err(|e| e.kind().to_string())?;
            socket.send(&bytes).map_err(|e| e.kind().to_string())?;
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).map_err(|e| e.kind().to_string())?;
            Ok(Message::from_vec(&buffer[..length]).unwrap())
        })
    }

    fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResponseCode> {
        let answer = self.look_up(GATEWAY_V4.into(), name, RecordType::A).unwrap();
        if answer.metadata.response_code != ResponseCode::NoError {
            return Err(answer.metadata.response_code);
        }
        Ok(answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect())
    }
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The world outside: answers every connection with its own address and what it was sent first.
fn internet(id: &str) -> Host {
    let host = Host::new(format!("extest-{id}-inet"));
    let (near, far) = (format!("x{id}n"), format!("x{id}f"));
    ip(&format!("link add {near} type veth peer name {far} netns {}", host.0));
    ip(&format!("addr add 198.18.{id}.1/30 dev {near}"));
    ip(&format!("-6 addr add fd77:{id}::1/126 dev {near} nodad"));
    ip(&format!("link set {near} up"));
    ip(&format!("-n {} link set {far} up", host.0));
    ip(&format!("-n {} addr add 198.18.{id}.2/30 dev {far}", host.0));
    ip(&format!("-n {} -6 addr add fd77:{id}::2/126 dev {far} nodad", host.0));
    for address in [PUBLIC, PRIVATE, METADATA] {
        ip(&format!("-n {} addr add {address}/32 dev lo", host.0));
        ip(&format!("route replace {address}/32 via 198.18.{id}.2"));
    }
    ip(&format!("-n {} -6 addr add {PUBLIC_6}/128 dev lo", host.0));
    ip(&format!("-6 route replace {PUBLIC_6}/128 via fd77:{id}::2"));
    for port in [80, 443, 5000, 853] {
        let listener = host.run(move || TcpListener::bind(("::", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || echo(stream));
            }
        });
    }
    host
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).unwrap_or(0);
    let _ = stream.write_all(format!("{} got {length}", stream.local_addr().unwrap()).as_bytes());
}

/// Puts a guest namespace in the place of the VM behind the TAP.
fn guest(id: &str, network: &Network) -> Host {
    let host = Host::new(format!("extest-{id}-guest"));
    let (ns, guest) = (network.namespace(), host.0.clone());
    ip(&format!("-n {ns} link del {TAP}"));
    ip(&format!("-n {ns} link add {TAP} type veth peer name eth0 netns {guest}"));
    ip(&format!("-n {ns} link set {TAP} address {GATEWAY_MAC}"));
    ip(&format!("-n {ns} addr add {GATEWAY_V4}/{PREFIX_V4} dev {TAP}"));
    ip(&format!("-n {ns} addr add {GATEWAY_V6}/{PREFIX_V6} dev {TAP} nodad"));
    ip(&format!("-n {ns} link set {TAP} up"));
    ip(&format!("-n {guest} link set eth0 address {GUEST_MAC}"));
    ip(&format!("-n {guest} addr add {GUEST_V4}/{PREFIX_V4} dev eth0"));
    ip(&format!("-n {guest} addr add {GUEST_V6}/{PREFIX_V6} dev eth0 nodad"));
    ip(&format!("-n {guest} link set eth0 up"));
    ip(&format!("-n {guest} route add default via {GATEWAY_V4}"));
    ip(&format!("-n {guest} -6 route add default via {GATEWAY_V6}"));
    host
}

/// The operator's DNS server: most names are public, `inside.example` is private, and so on.
fn upstream() -> Upstream {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let servers = vec![socket.local_addr().unwrap()];
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let question = query.queries[0].clone();
            let mut answer = Message::response(query.metadata.id, OpCode::Query);
            answer.add_query(question.clone());
            let text = question.name.to_ascii();
            let address = match text.trim_end_matches('.') {
                "inside.example" => "10.77.0.2",
                "metadata.google.internal" => METADATA,
                _ => PUBLIC,
            };
            if question.query_type == RecordType::A {
                let data = RData::A(A(address.parse().unwrap()));
                answer.add_answer(Record::from_rdata(question.name, 60, data));
            } else if question.query_type == RecordType::NULL {
                let data = RData::NULL(NULL::with(b"tunnel".to_vec()));
                answer.add_answer(Record::from_rdata(question.name, 60, data));
            }
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    Upstream { servers }
}

/// The tests give the same addresses to their hosts: one at a time.
static WORLD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

async fn network(id: &str, policy: EgressPolicy) -> Network {
    Network::create(&format!("extest-{id}-vm"), policy, upstream()).await.unwrap()
}

fn http(host: &str) -> &'static [u8] {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").leak().as_bytes()
}

/// A real TLS client hello that names `server`.
fn hello(server: &str) -> &'static [u8] {
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
    bytes.leak()
}

/// An address of this machine that is not loopback, as a hostile job might guess it.
fn local_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((PUBLIC, 9)).unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn public_tcp_is_open_and_everything_else_is_refused_quickly_and_counted() {
    if !root() {
        return;
    }
    let _world = WORLD.lock().await;
    let _internet = internet("11");
    let opened = NetworkRule::parse(&format!("{PRIVATE}:5000")).unwrap();
    let network =
        network("11", EgressPolicy { networks: vec![opened], ..EgressPolicy::default() }).await;
    let vm = guest("11", &network);

    let answer = vm.talk(PUBLIC, 80, http("x")).unwrap();
    assert!(answer.contains(PUBLIC), "{answer}");
    assert!(vm.talk(PUBLIC_6, 80, http("x")).unwrap().contains(PUBLIC_6));
    assert!(vm.talk(PRIVATE, 5000, b"GET").is_ok(), "opened by the operator");

    let own = local_address();
    for (to, port) in [
        (METADATA, 80),
        ("fd00:ec2::254", 80),
        ("100.100.100.200", 80),
        ("168.63.129.16", 80),
        (PRIVATE, 80),
        ("172.16.0.1", 443),
        ("192.168.1.1", 443),
        ("100.64.0.1", 443),
        ("127.0.0.1", 22),
        ("198.18.11.1", 22),
        ("64:ff9b::a4d:1", 80),
        ("fe80::1", 80),
        (own.as_str(), 22),
        (PUBLIC, 853),
        ("192.0.2.1", 1080),
    ] {
        assert!(vm.talk(to, port, b"x").is_err(), "{to}:{port} must be refused");
    }
    let dns = |server: &str| vm.look_up(server.parse().unwrap(), "good.example", RecordType::A);
    assert!(dns(PUBLIC).is_err(), "another DNS server must not be reachable");
    assert_eq!(vm.resolve("good.example").unwrap(), [PUBLIC.parse::<IpAddr>().unwrap()]);
    assert!(dns(&GATEWAY_V6.to_string()).is_ok(), "our resolver answers over IPv6 as well");
    assert!(vm.resolve("inside.example").unwrap().is_empty(), "no rebinding");
    assert!(vm.resolve("metadata.google.internal").unwrap().is_empty());
    let tunnel = vm.look_up(GATEWAY_V4.into(), "x.good.example", RecordType::NULL).unwrap();
    assert_eq!(tunnel.metadata.response_code, ResponseCode::Refused);

    let usage = network.usage().await;
    let count = |reason: &str| usage.blocked.get(reason).copied().unwrap_or(0);
    assert!(count("metadata_service") >= 3, "{usage:?}");
    assert!(count("private_network") >= 3, "{usage:?}");
    assert!(count("foreign_dns") >= 2, "{usage:?}");
    assert!(count("dns_abuse") == 1, "{usage:?}");
    assert!(usage.bytes_in > 0 && usage.bytes_out > 0, "{usage:?}");
    network.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_is_about_names_and_tricks_do_not_help() {
    if !root() {
        return;
    }
    let _world = WORLD.lock().await;
    let _internet = internet("12");
    let rule = |text| DomainRule::parse(text).unwrap();
    let domains = vec![rule("*.good.example"), rule("git.example:5000"), rule("inside.example")];
    let policy = EgressPolicy { domains: Some(domains), ..EgressPolicy::default() };
    let network = network("12", policy).await;
    let vm = guest("12", &network);

    assert!(vm.talk(PUBLIC, 80, http("a.good.example")).is_ok());
    assert!(vm.talk(PUBLIC, 443, hello("A.Good.Example")).is_ok());
    for (port, say, why) in [
        (80, http("evil.example"), "another name"),
        (80, http("good.example.evil.net"), "a longer name"),
        (80, http("11.22.33.44"), "an address for a name"),
        (443, hello("evil.example"), "another server name"),
        (443, hello("11.22.33.44"), "TLS without a server name"),
        (5000, b"hi" as &[u8], "an address nobody resolved"),
        (8080, http("a.good.example"), "a port that no rule opens"),
    ] {
        let answer = vm.talk(PUBLIC, port, say);
        assert!(answer.is_err(), "{why}: {answer:?}");
    }
    // A forged name at an address of the job's choice reaches what the *name* resolves to.
    let answer = vm.talk("11.99.99.99", 80, http("a.good.example")).unwrap();
    assert!(answer.contains(PUBLIC), "{answer}");
    assert!(vm.talk(PUBLIC, 80, http("inside.example")).is_err(), "a name that leads inside");
    // Other protocols: the address must come from an allowed name, on that rule's port.
    assert_eq!(vm.resolve("git.example").unwrap(), [PUBLIC.parse::<IpAddr>().unwrap()]);
    assert!(vm.talk(PUBLIC, 5000, b"hi").is_ok());

    assert_eq!(vm.resolve("secret-data.evil.example"), Err(ResponseCode::Refused));
    let https = vm.look_up(GATEWAY_V4.into(), "a.good.example", RecordType::HTTPS).unwrap();
    assert!(https.answers.is_empty(), "no keys for encrypted client hellos");
    network.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_spoofing_and_a_flush_open_nothing() {
    if !root() {
        return;
    }
    let _world = WORLD.lock().await;
    let _internet = internet("13");
    let network = network("13", EgressPolicy::default()).await;
    let vm = guest("13", &network);

    let mut codes = BTreeMap::new();
    for n in 0..320 {
        let name = format!("chunk{n}.good.example");
        let code = vm.resolve(&name).err().unwrap_or(ResponseCode::NoError);
        *codes.entry(u16::from(code)).or_insert(0) += 1;
    }
    assert_eq!(codes[&u16::from(ResponseCode::Refused)], 20, "names beyond 300 a minute are cut");

    ip(&format!("-n {} addr add 198.51.100.7/32 dev eth0", vm.0));
    let sent = vm.run(|| {
        let socket = UdpSocket::bind("198.51.100.7:0").unwrap();
        socket.send_to(b"x", (GATEWAY_V4, 53)).is_ok()
    });
    assert!(sent, "the guest may send what it likes");
    let blocked = network.usage().await.blocked;
    assert_eq!(blocked.get("spoofed"), Some(&1), "{blocked:?}");

    let flush = ["netns", "exec", network.namespace(), "nft", "flush", "ruleset"];
    assert!(Command::new("ip").args(flush).status().unwrap().success());
    assert!(vm.talk(PUBLIC, 80, http("x")).is_err(), "without rules there is no way out");
    assert!(network.reconcile().await.unwrap(), "the flush is noticed");
    assert!(!network.reconcile().await.unwrap());
    assert!(vm.talk(PUBLIC, 80, http("x")).is_ok());

    let name = network.namespace().to_owned();
    drop(network);
    assert!(vm.talk(PUBLIC, 80, http("x")).is_err(), "the way out dies with its owner");
    assert_eq!(reclaim(&name, |_| true).await.unwrap(), [] as [String; 0], "it has an owner");
    assert_eq!(reclaim(&name, |_| false).await.unwrap(), std::slice::from_ref(&name));
    assert!(reclaim(&name, |_| false).await.unwrap().is_empty());
}

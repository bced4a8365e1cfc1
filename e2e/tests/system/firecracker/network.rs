//! What a job under Firecracker reaches, and how fast.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use e2e::api::Job;
use e2e::kvm_box::HOST;
use e2e::world::job;
use serde_json::json;

use super::host::{Host, PATIENCE, Settings};

const NAME: &str = "executor";
/// What a job may read and write in a second where it is limited, in bytes.
const LIMIT: u64 = 100_000;
/// What it reads and writes, in bytes.
const AMOUNT: usize = 1_000_000;

async fn submit(host: &Host, script: &str) -> Job {
    let mut file = job(script);
    file["network"] = json!("egress");
    host.world.api.submit(&file).await
}

/// Answers on all of its addresses, and says of each whether it does.
const LISTENER: &str = "
echo identity $(cat /proc/sys/kernel/random/boot_id) $(head -c 16 /dev/urandom | md5sum)
mkdir /tmp/www; echo the secret of the other > /tmp/www/index.html
httpd -p 7777 -h /tmp/www
for address in $(ip -o addr show dev eth0 | sed 's/.*inet6* //; s/[/ ].*//'); do
    case $address in
        fe80*) continue;;
        *:*) url=http://[$address]:7777/;;
        *) url=http://$address:7777/;;
    esac
    echo own $address: $(timeout 5 wget -q -O - $url)
done
echo listening; sleep 600";

/// Tries all addresses that the other could have: those of guests, as its neighbour on the same link by its
/// hardware address, of the host's end, of the machine, and whoever answers to all. All guests have the same
/// address: this one tries to have others, too, which steps may not.
const ATTACKER: &str = "
echo identity $(cat /proc/sys/kernel/random/boot_id) $(head -c 16 /dev/urandom | md5sum)
try() { name=$1; shift; echo \"$name: $(\"$@\" 2>/dev/null | grep -o 'the secret.*' || echo nothing)\"; }
get() { try \"$1\" timeout 4 wget -q -O - \"http://$1:7777/\"; }
reach() {
    for address in 192.0.2.1 192.0.2.2 192.0.2.3 10.0.2.15 10.0.2.2 255.255.255.255 224.0.0.1; do get $address; done
    for address in 2001:db8::1 2001:db8::2 2001:db8::3 fe80::1 fe80::ff:fe00:2 fe80::ff:fe00:2%eth0 ff02::1; do get \"[$address]\"; done
}
reach
ip addr flush dev eth0 && ip addr add 192.0.2.3/24 dev eth0 && ip -6 addr add 2001:db8::3/64 dev eth0 nodad && echo moved
ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0
ip neigh replace 2001:db8::2 lladdr 02:00:00:00:00:02 dev eth0
reach
ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:03 && ip link set eth0 up && echo disguised
ip addr add 192.0.2.3/24 dev eth0; ip -6 addr add 2001:db8::3/64 dev eth0 nodad
ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0
reach
echo tried";

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_at_once_do_not_reach_each_other_and_have_their_bandwidth() {
    let Some(host) = Host::boot().await else { return };
    let server = Server::start();
    let opened = format!("EXECUTOR_NETWORK_ALLOW_ADDRESSES={HOST}:{}", server.port);
    let limits = format!(
        "{opened} EXECUTOR_FIRECRACKER_BANDWIDTH_INGRESS={LIMIT} EXECUTOR_FIRECRACKER_BANDWIDTH_EGRESS={LIMIT}"
    );
    let pid = host.executor(NAME, Settings { more: &limits, ..Settings::default() }).await;

    let listener = submit(&host, LISTENER).await;
    listener.prints("stdout: listening", PATIENCE).await;
    let own = listener.log().await;
    for address in ["192.0.2.2", "2001:db8::2"] {
        assert!(own.contains(&format!("own {address}: the secret of the other")), "{own}");
    }
    let attacker = submit(&host, ATTACKER).await;
    attacker.reaches("completed", PATIENCE).await;
    let log = attacker.log().await;
    assert!(log.contains("stdout: tried"), "{log}");
    let answers = log.lines().filter_map(|line| line.strip_prefix("stdout: ")?.split_once(": "));
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers.len(), 3 * 14, "{log}");
    assert!(answers.iter().all(|(_, answer)| *answer == "nothing"), "{answers:#?}");
    listener.cancel().await;
    listener.reaches("canceled", PATIENCE).await;
    // Nor have they anything in common that should be their own.
    let identity = |log: &str| -> Vec<String> {
        let line = log.lines().find_map(|line| line.strip_prefix("stdout: identity "));
        line.expect("it is printed").split(' ').take(2).map(str::to_owned).collect()
    };
    let (one, other) = (identity(&own), identity(&log));
    assert!(one[0] != other[0] && one[1] != other[1], "{one:?} {other:?}");

    let (down, up) = server.measure(&host).await;
    host.machine.run(&format!("kill -9 {pid}"));
    let unlimited = format!(
        "{opened} EXECUTOR_FIRECRACKER_BANDWIDTH_INGRESS=0 EXECUTOR_FIRECRACKER_BANDWIDTH_EGRESS=0"
    );
    host.executor(NAME, Settings { more: &unlimited, ..Settings::default() }).await;
    let (free_down, free_up) = server.measure(&host).await;
    let limit = LIMIT as f64;
    for (what, limited, free) in [("download", down, free_down), ("upload", up, free_up)] {
        eprintln!("{what}: {limited:.0} B/s limited, {free:.0} B/s not limited");
        assert!(limited < limit * 1.25, "{what}: {limited} B/s");
        assert!(free > limit * 2.0, "{what}: {free} B/s: it is not the limit that is measured");
    }
    host.leaves_nothing(NAME).await;
}

/// Gives or takes [`AMOUNT`] bytes: `GET` or anything else. Then says how long it took to take them.
struct Server {
    port: u16,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { port }
    }

    /// How many bytes per second a job reads and writes. Reading is measured by the job: what lies between has
    /// buffers.
    async fn measure(&self, host: &Host) -> (f64, f64) {
        let script = format!(
            "now() {{ cut -d' ' -f1 /proc/uptime; }}
            begin=$(now)
            wget -q -O - http://{HOST}:{port}/ | wc -c
            echo \"download $begin $(now) s\"
            (printf take; head -c {AMOUNT} /dev/zero) | nc {HOST} {port}",
            port = self.port
        );
        let job = submit(host, &script).await;
        job.reaches("completed", PATIENCE).await;
        let log = job.log().await;
        assert!(log.contains(&format!("stdout: {AMOUNT}")), "{log}");
        let numbers = |word: &str| -> Vec<f64> {
            let line =
                log.lines().find_map(|line| line.strip_prefix("stdout: ")?.strip_prefix(word));
            let line = line.unwrap_or_else(|| panic!("{word}?\\n{log}"));
            line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
        };
        let download = numbers("download ");
        let seconds = [download[1] - download[0], numbers("upload ")[0]];
        (AMOUNT as f64 / seconds[0], AMOUNT as f64 / seconds[1])
    }
}

fn serve(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    let Ok(1..) = stream.read(&mut buffer[..4]) else { return };
    if buffer.starts_with(b"GET ") {
        // What is not read when the connection closes takes the answer with it.
        let mut request = buffer[..4].to_vec();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(length @ 1..) => request.extend_from_slice(&buffer[..length]),
                _ => return,
            }
        }
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {AMOUNT}\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), &vec![0; AMOUNT]].concat());
        return;
    }
    let (begin, mut taken) = (Instant::now(), 0);
    while taken < AMOUNT {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => taken += length,
            _ => return,
        }
    }
    let _ = writeln!(stream, "upload {} s", begin.elapsed().as_secs_f64());
}

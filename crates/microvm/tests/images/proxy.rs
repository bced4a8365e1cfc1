//! A tiny HTTP proxy in front of a registry that breaks things on purpose.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// One byte of the body is changed.
    Flip,
    /// The body is followed by more.
    Longer,
    /// Another answer without a body.
    Status(u16),
    /// The connection ends before an answer.
    Refuse,
    /// Never answers.
    Hang,
    /// The answer is passed on without its digest header.
    NoDigest,
    /// The server ignores `Range`.
    NoRange,
    /// Sends the client to the same path on another port of this machine.
    Redirect(u16),
}

/// What a registry with a token service says and wants.
const SERVICE: &str = "the service";
const TOKEN: &str = "sesame";

#[derive(Default)]
struct Plan {
    /// Text that must be in the request line, and what happens then, used up in order.
    faults: VecDeque<(String, Fault)>,
    /// First lines of all requests, with the range asked for.
    requests: Vec<String>,
}

pub struct Proxy {
    /// `127.0.0.1:PORT`.
    pub host: String,
    plan: Arc<Mutex<Plan>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start(upstream: &str) -> Self {
        Self::with(upstream, None).await
    }

    /// Wants a token, which its token service gives to `user:password` in base64.
    pub async fn gated(upstream: &str, login: &'static str) -> Self {
        Self::with(upstream, Some(login)).await
    }

    async fn with(upstream: &str, gate: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let plan: Arc<Mutex<Plan>> = Arc::default();
        let (shared, upstream, own) = (Arc::clone(&plan), upstream.to_owned(), host.clone());
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (plan, upstream, own) = (Arc::clone(&shared), upstream.clone(), own.clone());
                tokio::spawn(async move {
                    let gate = gate.map(|login| (own.as_str(), login));
                    serve(client, &upstream, &plan, gate).await
                });
            }
        });
        Self { host, plan, task }
    }

    /// The next request whose first line contains `part` suffers `fault`.
    pub fn fault(&self, part: &str, fault: Fault) {
        self.plan.lock().unwrap().faults.push_back((part.to_owned(), fault));
    }

    /// Requests so far whose line contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.plan.lock().unwrap().requests.iter().filter(|line| line.contains(part)).count()
    }

    pub fn requests(&self) -> Vec<String> {
        self.plan.lock().unwrap().requests.clone()
    }

    pub fn unused_faults(&self) -> usize {
        self.plan.lock().unwrap().faults.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request; the connection is closed after it. A broken client is not our concern.
async fn serve(
    mut client: TcpStream,
    upstream: &str,
    plan: &Mutex<Plan>,
    gate: Option<(&str, &str)>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let line = head.lines().next()?.to_owned();
    let header = |name: &str| {
        let is = |l: &&str| l.to_ascii_lowercase().starts_with(name);
        head.lines().find(is).unwrap_or_default().to_owned()
    };
    let (range, authorization) = (header("range:"), header("authorization:"));
    let fault = {
        let mut plan = plan.lock().unwrap();
        plan.requests.push(format!("{line} {range} {authorization}"));
        let index = plan.faults.iter().position(|(part, _)| line.contains(part.as_str()));
        index.and_then(|index| plan.faults.remove(index)).map(|(_, fault)| fault)
    };
    if let Some((host, login)) = gate {
        let answer = if line.contains(" /token?") {
            let asked = line.contains("scope=repository%3Aapp%3Apull")
                && line.contains("service=the+service");
            match asked && authorization.ends_with(&format!("Basic {login}")) {
                true => format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{{\"token\": \"{TOKEN}\"}}"
                ),
                false => {
                    "HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
                }
            }
        } else if !authorization.ends_with(&format!("Bearer {TOKEN}")) {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"{SERVICE}\"");
            format!(
                "HTTP/1.1 401 No\r\nwww-authenticate: {challenge}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        } else {
            String::new()
        };
        if !answer.is_empty() {
            return client.write_all(answer.as_bytes()).await.ok();
        }
    }
    match fault {
        Some(Fault::Redirect(port)) => {
            let path = line.split(' ').nth(1)?;
            let answer = format!(
                "HTTP/1.1 307 Over there\r\nlocation: http://127.0.0.1:{port}{path}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            return client.write_all(answer.as_bytes()).await.ok();
        }
        Some(Fault::Refuse) => return None,
        Some(Fault::Hang) => {
            // Until the client gives up.
            let _ = client.read_u8().await;
            return None;
        }
        Some(Fault::Status(status)) => {
            let answer = format!(
                "HTTP/1.1 {status} Fault\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            return client.write_all(answer.as_bytes()).await.ok();
        }
        _ => {}
    }
    let mut request = String::new();
    for header in head.trim_end().lines() {
        let name = header.to_ascii_lowercase();
        let drop_range = fault == Some(Fault::NoRange) && name.starts_with("range:");
        if !name.starts_with("connection:") && !drop_range {
            request.push_str(&format!("{header}\r\n"));
        }
    }
    request.push_str("connection: close\r\n\r\n");
    let mut server = TcpStream::connect(upstream).await.ok()?;
    server.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.ok()?;
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let mut body = answer.split_off(split);
    let mut head = String::from_utf8(answer).ok()?;
    match fault {
        Some(Fault::Cut(bytes)) => body.truncate(bytes),
        Some(Fault::Flip) => *body.last_mut()? ^= 1,
        Some(Fault::Longer) => {
            head = without(&head, "content-length");
            body.extend_from_slice(b"more");
        }
        Some(Fault::NoDigest) => head = without(&head, "docker-content-digest"),
        _ => {}
    }
    client.write_all(head.as_bytes()).await.ok()?;
    client.write_all(&body).await.ok()
}

fn without(head: &str, name: &str) -> String {
    let kept = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with(name));
    kept.map(|line| format!("{line}\r\n")).collect::<String>() + "\r\n"
}

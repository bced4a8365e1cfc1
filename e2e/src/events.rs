//! A job's live log, as a page or a program follows it.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use crate::http::client;

/// An event stream that is being read.
pub struct Events {
    response: Response,
    unread: String,
}

/// One event.
#[derive(Debug)]
pub struct Event {
    /// `log`, `entry`, `phase`, `state` or `end`.
    pub name: String,
    /// Its data.
    pub data: Value,
}

impl Events {
    /// Follows `/jobs/{job}/logs` of the instance at `url`.
    pub async fn follow(url: &str, token: &str, job: i64) -> Self {
        let request = client().get(format!("{url}/api/v1/jobs/{job}/logs"));
        let request = request.header("Authorization", format!("token {token}"));
        let request =
            request.header("Accept", "text/event-stream").timeout(Duration::from_secs(600));
        let response = request.send().await.expect("the instance answers");
        assert!(response.status().is_success(), "{}", response.status());
        Self { response, unread: String::new() }
    }

    /// The next event; `None` when the stream ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.unread.find("\n\n") {
                let block: String = self.unread.drain(..end + 2).collect();
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
                continue; // a comment that keeps the connection alive
            }
            let chunk = self.response.chunk().await.expect("the stream goes on")?;
            self.unread.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let lines: Vec<_> = lines.collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    };
    let data = serde_json::from_str(&field("data")?).expect("the data of an event is JSON");
    Some(Event { name: field("event").unwrap_or_default(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_names_and_data_and_comments_are_none() {
        let event = parse("id: 4\nevent: log\ndata: {\"text\":\"a\"}\n\n").unwrap();
        assert_eq!((event.name.as_str(), &event.data["text"]), ("log", &Value::from("a")));
        assert!(parse(": still here\n\n").is_none());
    }
}

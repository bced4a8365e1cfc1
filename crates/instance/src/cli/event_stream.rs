//! Reads an event stream (`text/event-stream`) in pieces, as the WHATWG HTML standard §9.2.6 says.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `event:`; empty = `message`.
    pub name: String,
    /// The last `id:` seen on the stream.
    pub id: String,
    /// All `data:` lines.
    pub data: String,
}

/// Takes bytes, gives whole events.
#[derive(Debug, Default)]
pub struct Parser {
    rest: Vec<u8>,
    pending: Event,
    last_id: String,
}

impl Parser {
    /// Adds bytes and returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\n').trim_end_matches('\r');
            if line.is_empty() {
                events.extend(self.finish());
            } else {
                self.field(line);
            }
        }
        events
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.pending.name),
            "id" => value.clone_into(&mut self.last_id),
            "data" => {
                self.pending.data.push_str(value);
                self.pending.data.push('\n');
            }
            _ => {}
        }
    }

    fn finish(&mut self) -> Option<Event> {
        let mut event = std::mem::take(&mut self.pending);
        event.data.pop()?;
        event.id.clone_from(&self.last_id);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_whole_however_the_bytes_are_cut() {
        let stream = ": keep-alive\n\nid: 7\nevent: log\ndata: {\"a\":\ndata: \"é\"}\n\ndata:x\r\n\r\nid: 8\n\n";
        let mut whole = Parser::default();
        let events = whole.push(stream.as_bytes());
        let mut bytewise = Parser::default();
        let pieces: Vec<Event> = stream.bytes().flat_map(|b| bytewise.push(&[b])).collect();
        assert_eq!(events, pieces);
        assert_eq!(events.len(), 2);
        assert_eq!((events[0].name.as_str(), events[0].id.as_str()), ("log", "7"));
        assert_eq!(events[0].data, "{\"a\":\n\"é\"}");
        assert_eq!((events[1].data.as_str(), events[1].id.as_str()), ("x", "7"));
    }
}

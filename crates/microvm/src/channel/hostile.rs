//! Guests that lie: whatever they send, callers get an answer and the reason is told.

use std::time::Duration;

use guest_wire::message::{
    Collected, ExecResult, FileEnd, FileHeader, GuestMessage, Outcome, Prepare, TerminalSize,
};
use guest_wire::{CONTROL_FRAME_MAX, GENERATION, Tag, encode};
use serde::Serialize;

use super::*;
use crate::guest_client::{CollectSpec, ExecSpec, GuestClient};

/// The guest's ends of both channels.
struct Guest {
    control: UnixStream,
    bulk: UnixStream,
}

impl Guest {
    async fn say(&mut self, message: &impl Serialize) {
        let mut frame = Vec::new();
        let json = serde_json::to_vec(message).unwrap();
        encode(&[&json], CONTROL_FRAME_MAX, &mut frame).unwrap();
        self.control.write_all(&frame).await.unwrap();
    }

    async fn send(&mut self, frame: BulkFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        self.bulk.write_all(&bytes).await.unwrap();
    }

    async fn data(&mut self, stream: u32, tag: Tag, value: &impl Serialize) {
        let data = serde_json::to_vec(value).unwrap();
        self.send(BulkFrame::Data { stream, tag, data }).await;
    }

    /// Waits until the host asked for something.
    async fn hear(&mut self) {
        let mut buffer = [0; 4096];
        assert!(self.control.read(&mut buffer).await.unwrap() > 0);
    }
}

fn hello() -> Hello {
    Hello { oldest_generation: 1, generation: GENERATION, unix_time_ns: 0, seed: String::new() }
}

fn hello_reply(generation: Option<u32>) -> GuestMessage {
    GuestMessage::Hello(HelloReply {
        generation,
        supported: (7, 9),
        kernel: "6.1".into(),
        uptime_ms: 1,
        memory_bytes: 1,
    })
}

fn pair() -> (Guest, UnixStream, UnixStream) {
    let (control, our_control) = UnixStream::pair().unwrap();
    let (bulk, our_bulk) = UnixStream::pair().unwrap();
    (Guest { control, bulk }, our_control, our_bulk)
}

async fn connected() -> (Guest, Arc<Channel>) {
    connected_to(GENERATION).await
}

async fn connected_to(generation: u32) -> (Guest, Arc<Channel>) {
    let (mut guest, control, bulk) = pair();
    let opening = tokio::spawn(Channel::open(control, bulk, hello()));
    guest.hear().await;
    guest.say(&hello_reply(Some(generation))).await;
    (guest, opening.await.unwrap().unwrap().0)
}

/// The host must notice by itself; a test that waits longer than this has found a bug.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it is noticed")
}

#[tokio::test]
async fn hellos_that_are_none() {
    let open = async |say: GuestMessage| {
        let (mut guest, control, bulk) = pair();
        guest.say(&say).await;
        Channel::open(control, bulk, hello()).await.map(|_| ()).unwrap_err()
    };
    assert!(matches!(open(hello_reply(None)).await, HelloError::Generation((7, 9))));
    let early = GuestMessage::Reply { id: 1, result: Outcome::Ok(Reply::Done) };
    assert!(matches!(open(early).await, HelloError::Protocol(_)));
    let (guest, control, bulk) = pair();
    drop(guest);
    assert!(matches!(Channel::open(control, bulk, hello()).await, Err(HelloError::Closed(_))));
}

#[tokio::test]
async fn frames_of_four_gigabytes_end_the_connection_on_either_channel() {
    let (mut guest, channel) = connected().await;
    let client = GuestClient::new(Arc::clone(&channel));
    let waiting = tokio::spawn(async move { client.prepare(Prepare::default()).await });
    guest.hear().await;
    guest.control.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("exceeds the limit"), "{error}");

    let (mut guest, channel) = connected().await;
    guest.bulk.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    assert!(soon(channel.lost()).await.contains("exceeds the limit"));
    let later = channel.request(Request::Ping).await;
    assert!(
        matches!(later, Err(GuestError::Gone(why)) if why.contains("exceeds")),
        "told to the late"
    );
}

#[tokio::test]
async fn a_guest_that_never_reads_blocks_no_one_for_ever() {
    let (guest, channel) = connected().await;
    let client = GuestClient::new(Arc::clone(&channel));
    let many: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            let env = vec!["A=".to_owned() + &"x".repeat(60_000)];
            tokio::spawn(async move { client.exec(ExecSpec { env, ..ExecSpec::default() }).await })
        })
        .collect();
    tokio::task::yield_now().await;
    // What the supervisor does with a guest that is silent.
    channel.fail("silent");
    for call in many {
        match soon(call).await.unwrap() {
            Ok(exec) => assert!(matches!(soon(exec.wait()).await, Err(GuestError::Gone(_)))),
            Err(error) => assert!(matches!(error, GuestError::Gone(_)), "{error}"),
        }
    }
    drop(guest);
}

#[tokio::test]
async fn an_older_guest_is_not_asked_for_what_it_does_not_know() {
    let (_guest, channel) = connected_to(1).await;
    let client = GuestClient::new(channel);
    let size = Some(TerminalSize { cols: 80, rows: 24 });
    for spec in [
        ExecSpec { tty: size, ..ExecSpec::default() },
        ExecSpec { stdin: true, ..ExecSpec::default() },
    ] {
        let error = soon(client.exec(spec)).await.unwrap_err();
        assert!(matches!(error, GuestError::TooOld(_)), "{error}");
    }
    soon(client.exec(ExecSpec::default())).await.unwrap();
}

#[tokio::test]
async fn whoever_types_into_what_ended_is_told() {
    let (mut guest, channel) = connected().await;
    let client = GuestClient::new(channel);
    let exec = client.exec(ExecSpec { stdin: true, ..ExecSpec::default() }).await.unwrap();
    let input = exec.input();
    let typing = tokio::spawn(async move { input.send(&[0; 4096]).await });
    guest.hear().await;
    // It never granted anything.
    guest.send(BulkFrame::End { stream: 2 }).await;
    guest.send(BulkFrame::Reset { stream: 2, reason: "the command ended".into() }).await;
    assert!(matches!(soon(typing).await.unwrap(), Err(GuestError::Gone(_))));
}

#[tokio::test]
async fn replies_nobody_asked_for_are_nothing() {
    let (mut guest, channel) = connected().await;
    for id in 0..1000 {
        guest.say(&GuestMessage::Reply { id, result: Outcome::Ok(Reply::Done) }).await;
    }
    guest.send(BulkFrame::End { stream: 44 }).await;
    guest.send(BulkFrame::Data { stream: 46, tag: Tag::Stdout, data: vec![0; 1000] }).await;
    let client = GuestClient::new(channel);
    let asked = tokio::spawn(async move { client.ping().await });
    guest.hear().await;
    let result = Outcome::Ok(Reply::Exec(ExecResult::default()));
    guest.say(&GuestMessage::Reply { id: 1, result }).await;
    soon(asked).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_to_the_gateway_beyond_the_limit_are_reset() {
    let (mut guest, channel) = connected().await;
    let limit = u32::try_from(guest_wire::bulk::MAX_GATEWAY_STREAMS).unwrap();
    for number in 0..=limit {
        guest.send(BulkFrame::Open { stream: number * 2 + 1 }).await;
    }
    let mut decoder = Decoder::new(BULK_FRAME_MAX);
    let mut buffer = [0; 1024];
    let length = soon(guest.bulk.read(&mut buffer)).await.unwrap();
    let frame = decoder.next_frame(&mut &buffer[..length]).unwrap().unwrap();
    let refused = BulkFrame::decode(frame).unwrap();
    assert!(matches!(refused, BulkFrame::Reset { stream, .. } if stream == limit * 2 + 1));
    assert!(soon(channel.next_gateway()).await.is_some());
    guest.send(BulkFrame::Open { stream: 2 }).await;
    assert!(soon(channel.lost()).await.contains("not the guest's"));
    assert!(soon(channel.next_gateway()).await.is_none());
}

async fn collect_from(lie: impl AsyncFnOnce(&mut Guest)) -> String {
    let (mut guest, channel) = connected().await;
    let client = GuestClient::new(Arc::clone(&channel));
    let collecting = tokio::spawn(async move {
        let spec = CollectSpec {
            globs: vec!["**".into()],
            max_file_bytes: 100,
            max_total_bytes: 150,
            max_files: 5,
        };
        let mut collect = client.collect(spec).await.unwrap();
        loop {
            match collect.next_file().await {
                Ok(Some(mut file)) => {
                    let mut content = Vec::new();
                    if let Err(error) = file.read_to_end(&mut content).await {
                        return error.to_string();
                    }
                }
                Ok(None) => {
                    return collect
                        .finish()
                        .await
                        .map_or_else(|e| e.to_string(), |_| "fine".into());
                }
                Err(error) => return error.to_string(),
            }
        }
    });
    guest.hear().await;
    lie(&mut guest).await;
    soon(collecting).await.unwrap()
}

fn header(path: &str, size: u64) -> FileHeader {
    FileHeader { path: path.into(), size, mode: 0o644 }
}

#[tokio::test]
async fn files_are_believed_only_within_what_was_asked() {
    const STREAM: u32 = 2;
    let fine = collect_from(async |guest| {
        guest.data(STREAM, Tag::FileHeader, &header("a/b", 3)).await;
        let data = b"abc".to_vec();
        guest.send(BulkFrame::Data { stream: STREAM, tag: Tag::Plain, data }).await;
        guest.data(STREAM, Tag::FileEnd, &FileEnd { error: None }).await;
        guest.send(BulkFrame::End { stream: STREAM }).await;
        let result = Outcome::Ok(Reply::Collected(Collected::default()));
        guest.say(&GuestMessage::Reply { id: 1, result }).await;
    });
    assert_eq!(fine.await, "fine");
    for path in ["../x", "/etc/x", "a/../../x", "", "a\0b", ".."] {
        let said = collect_from(async |guest| {
            guest.data(STREAM, Tag::FileHeader, &header(path, 3)).await;
        });
        assert!(said.await.contains("unsafe path"), "{path:?}");
    }
    let said = collect_from(async |guest| {
        guest.data(STREAM, Tag::FileHeader, &header("a", 101)).await;
    });
    assert!(said.await.contains("more than was asked"));
    let said = collect_from(async |guest| {
        guest.data(STREAM, Tag::FileHeader, &header("a", 2)).await;
        let data = b"abc".to_vec();
        guest.send(BulkFrame::Data { stream: STREAM, tag: Tag::Plain, data }).await;
    });
    assert!(said.await.contains("something else"), "longer than it said");
    let said = collect_from(async |guest| {
        guest.data(STREAM, Tag::FileHeader, &header("a", 2)).await;
        guest.data(STREAM, Tag::FileEnd, &FileEnd { error: None }).await;
    });
    assert!(said.await.contains("shorter"));
    let said = collect_from(async |guest| {
        guest.data(STREAM, Tag::FileHeader, &header("a", 2)).await;
        guest.data(STREAM, Tag::FileEnd, &FileEnd { error: Some("bad disk".into()) }).await;
    });
    assert_eq!(said.await, "bad disk");
}

#[tokio::test]
async fn a_guest_that_does_not_answer() {
    const LIMIT: Duration = Duration::from_millis(300);
    let (mut guest, channel) = connected().await;
    let begin = std::time::Instant::now();
    soon(GuestClient::new(channel).falls_silent(LIMIT)).await;
    assert!(begin.elapsed() >= LIMIT, "{:?}", begin.elapsed());
    guest.hear().await;

    // One whose channel is lost is not silent but gone, and that is told elsewhere.
    let (guest, channel) = connected().await;
    drop(guest);
    let client = GuestClient::new(channel);
    let silent = client.falls_silent(LIMIT);
    assert!(tokio::time::timeout(LIMIT * 3, silent).await.is_err());
}

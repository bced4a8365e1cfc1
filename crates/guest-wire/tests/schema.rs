//! The wire's surface, frozen per generation. To accept an intended change: `UPDATE_SCHEMA=1 cargo test -p guest-wire`.

use guest_wire::message::*;
use guest_wire::{GENERATION, OLDEST_GENERATION};
use serde_json::{Value, json};

fn surface() -> Value {
    let hello = Hello { oldest_generation: 1, generation: 1, unix_time_ns: 2, seed: "00ff".into() };
    let hello_reply = HelloReply {
        generation: Some(1),
        supported: (1, 1),
        kernel: "6.1".into(),
        uptime_ms: 3,
        memory_bytes: 4,
    };
    let requests = [
        Request::Prepare(Prepare {
            scratch: "scratch".into(),
            workspace: Some("repo".into()),
            images: vec!["image0".into()],
            max_processes: 5,
            network: Some(Network {
                address_v4: [192, 0, 2, 2].into(),
                prefix_v4: 30,
                gateway_v4: [192, 0, 2, 1].into(),
                address_v6: "2001:db8::2".parse().unwrap(),
                prefix_v6: 126,
                gateway_v6: "2001:db8::1".parse().unwrap(),
            }),
            unix_time_ns: Some(12),
        }),
        Request::Exec(Exec {
            stream: 2,
            image: "image0".into(),
            argv: vec!["/bin/sh".into()],
            env: vec!["A=b".into()],
            cwd: "/data".into(),
            user: "nobody".into(),
            hostname: "job".into(),
            stdin: true,
            tty: Some(TerminalSize { cols: 80, rows: 24 }),
        }),
        Request::Kill { stream: 2 },
        Request::Resize { stream: 2, size: TerminalSize { cols: 132, rows: 43 } },
        Request::WriteFile(WriteFile {
            stream: 4,
            path: "a/b".into(),
            mode: 0o644,
            modified: Some(6),
        }),
        Request::ReadFile(ReadFile { stream: 6, path: "a/b".into(), max_bytes: 7 }),
        Request::RemoveFile { path: "a/b".into() },
        Request::Collect(Collect {
            stream: 8,
            globs: vec!["out/**".into()],
            max_file_bytes: 8,
            max_total_bytes: 9,
            max_files: 10,
        }),
        Request::Usage,
        Request::Ping,
        Request::PowerOff,
    ];
    let replies = [
        Reply::Done,
        Reply::Exec(ExecResult { exit_code: Some(0), signal: Some(9), ..Default::default() }),
        Reply::Bytes(11),
        Reply::Collected(Collected { notes: vec!["why".into()], ..Default::default() }),
        Reply::Usage(Usage::default()),
    ];
    let kinds = [
        FailureKind::BadRequest,
        FailureKind::NotFound,
        FailureKind::TooLarge,
        FailureKind::DiskFull,
        FailureKind::UnsafePath,
        FailureKind::CannotStart,
        FailureKind::Aborted,
        FailureKind::Internal,
    ];
    json!({
        "generation": GENERATION,
        "host": {
            "hello": HostMessage::Hello(hello),
            "request": requests.map(|request| HostMessage::Request { id: 1, request }),
        },
        "guest": {
            "hello": GuestMessage::Hello(hello_reply),
            "reply": replies.map(|reply| GuestMessage::Reply { id: 1, result: Outcome::Ok(reply) }),
            "failure": kinds.map(|kind| GuestMessage::Reply {
                id: 1,
                result: Outcome::Failed(Failure { kind, message: "why".into() }),
            }),
        },
        "file": {
            "header": FileHeader { path: "a".into(), size: 1, mode: 0o644 },
            "end": FileEnd { error: Some("why".into()) },
        },
    })
}

/// Whatever an older build wrote is still read, and means the same.
#[test]
fn older_surfaces_are_still_read() {
    let path = format!("{}/schema/gen-{OLDEST_GENERATION}.json", env!("CARGO_MANIFEST_DIR"));
    let old: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let requests = old["host"]["request"].as_array().unwrap();
    let exec = requests.iter().find_map(|message| {
        match serde_json::from_value(message.clone()).expect("a request of the oldest generation") {
            HostMessage::Request { request: Request::Exec(exec), .. } => Some(exec),
            _ => None,
        }
    });
    let exec = exec.expect("it has an exec");
    assert!(!exec.stdin && exec.tty.is_none() && exec.stream == 2, "{exec:?}");
    for message in old["guest"]["reply"].as_array().unwrap() {
        serde_json::from_value::<GuestMessage>(message.clone()).expect("a reply");
    }
}

#[test]
fn the_surface_is_what_the_generation_promised() {
    let path = format!("{}/schema/gen-{GENERATION}.json", env!("CARGO_MANIFEST_DIR"));
    let now = format!("{:#}\n", surface());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let promised = std::fs::read_to_string(&path).unwrap();
    assert_eq!(now, promised, "see VERSIONING.md before changing {path}");
}

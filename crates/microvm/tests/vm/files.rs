//! Files into and out of the workspace, with every trap that a step can set.

use std::collections::BTreeMap;

use microvm::guest_client::FailureKind;
use microvm::{CollectSpec, GuestError};
use tokio::io::AsyncReadExt;

use crate::machine::Machine;

#[tokio::test(flavor = "multi_thread")]
async fn files() {
    let machine = Machine::boot().await;
    what_is_written_is_read(&machine).await;
    no_path_leaves_the_workspace(&machine).await;
    what_matches_is_collected(&machine).await;
    limits_skip_and_say_so(&machine).await;
    machine.vm.destroy().await;
}

async fn what_is_written_is_read(machine: &Machine) {
    let guest = machine.guest();
    let content: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let time = Some(1_000_000_000);
    let length =
        guest.write_file("deep/er/data.bin", 0o755, time, content.as_slice()).await.unwrap();
    assert_eq!(length, 1_000_000);
    assert_eq!(guest.read_file("deep/er/data.bin", 2_000_000).await.unwrap().unwrap(), content);
    let output = machine.run("stat -c '%a %s %Y' deep/er/data.bin").await;
    assert_eq!(output.stdout, "755 1000000 1000000000\n", "{output:?}");
    guest.write_file("deep/er/data.bin", 0o644, None, &b"short"[..]).await.unwrap();
    assert_eq!(guest.read_file("deep/er/data.bin", 9).await.unwrap().unwrap(), b"short");
    assert_eq!(kind(guest.read_file("deep/er/data.bin", 4).await), FailureKind::TooLarge);
    guest.remove_file("deep/er/data.bin").await.unwrap();
    guest.remove_file("deep/er/data.bin").await.unwrap();
    assert_eq!(guest.read_file("deep/er/data.bin", 9).await.unwrap(), None);
    let broken = tokio_util::io::StreamReader::new(futures_util::stream::iter([
        Ok(&b"half"[..]),
        Err(std::io::Error::other("the source broke")),
    ]));
    let error = guest.write_file("half", 0o644, None, broken).await.unwrap_err();
    assert!(matches!(error, GuestError::Source(_)), "{error}");
}

async fn no_path_leaves_the_workspace(machine: &Machine) {
    let traps = "mkdir t && ln -s /etc t/abs && ln -s ../.. t/up && ln -s /etc/name t/file && \
                 mkfifo t/pipe && ln committed/file.txt t/hard";
    assert_eq!(machine.run(traps).await.result.exit_code, Some(0));
    let guest = machine.guest();
    let traps = ["/etc/x", "../x", "a/../../x", "", ".", "t/abs/name", "t/up/etc/x", "a\0b"];
    for path in traps {
        let written = guest.write_file(path, 0o644, None, &b"x"[..]).await;
        assert_eq!(kind(written), FailureKind::UnsafePath, "{path:?}");
        assert_eq!(kind(guest.read_file(path, 9).await), FailureKind::UnsafePath, "{path:?}");
        assert_eq!(kind(guest.remove_file(path).await), FailureKind::UnsafePath, "{path:?}");
    }
    for path in ["t/file", "t/pipe"] {
        assert_eq!(kind(guest.read_file(path, 9).await), FailureKind::UnsafePath, "{path:?}");
    }
    // Written in the place of the link, not through it.
    guest.write_file("t/file", 0o644, None, &b"new"[..]).await.unwrap();
    let output = machine.run("cat t/file /etc/name; test -L t/file || echo plain").await;
    assert_eq!(output.stdout, "newoneplain\n");
}

async fn what_matches_is_collected(machine: &Machine) {
    let script = "mkdir -p out/sub out/empty && echo one > out/a.txt && echo two > out/sub/b.log && \
                  ln -s /etc/name out/link && ln -s /etc out/dir && mkfifo out/pipe && \
                  touch \"out/$(printf 'bad\\377name')\" && : > out/zero && echo no > other";
    assert_eq!(machine.run(script).await.result.exit_code, Some(0));
    let (files, collected) = collect(machine, spec(&["out/**", "nothing/*"])).await;
    let expected = [("out/a.txt", "one\n"), ("out/sub/b.log", "two\n"), ("out/zero", "")];
    let expected = expected.map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec()));
    assert_eq!(files, BTreeMap::from(expected));
    assert_eq!((collected.files, collected.bytes), (3, 8));
    // Two links, a pipe, and a name that is not UTF-8.
    assert_eq!(collected.skipped, 4, "{collected:?}");
    let (files, _) = collect(machine, spec(&["out/*.log"])).await;
    assert!(files.is_empty(), "`*` does not cross directories");
}

async fn limits_skip_and_say_so(machine: &Machine) {
    let script = "mkdir many && for i in 1 2 3 4 5; do head -c 100000 /dev/zero > many/$i; done && \
                  head -c 5000000 /dev/zero > many/large";
    assert_eq!(machine.run(script).await.result.exit_code, Some(0));
    let limits =
        CollectSpec { max_file_bytes: 1_000_000, max_total_bytes: 350_000, ..spec(&["many/*"]) };
    let (files, collected) = collect(machine, limits).await;
    assert_eq!((files.len(), collected.files, collected.skipped), (3, 3, 3));
    assert!(collected.notes.iter().any(|note| note.contains("many/large")), "{collected:?}");
    let few = CollectSpec { max_files: 2, ..spec(&["many/?"]) };
    assert_eq!(collect(machine, few).await.0.len(), 2);
    // Given up half-way: the guest is not stuck on it.
    let mut half = machine.guest().collect(spec(&["many/**"])).await.unwrap();
    let mut file = half.next_file().await.unwrap().unwrap();
    file.read_exact(&mut [0; 10]).await.unwrap();
    drop(half);
    let mut skipping = machine.guest().collect(spec(&["many/**"])).await.unwrap();
    while skipping.next_file().await.unwrap().is_some() {}
    assert_eq!(skipping.finish().await.unwrap().files, 6);
}

fn spec(globs: &[&str]) -> CollectSpec {
    CollectSpec {
        globs: globs.iter().map(|glob| (*glob).to_owned()).collect(),
        max_file_bytes: 1 << 30,
        max_total_bytes: 1 << 30,
        max_files: 1000,
    }
}

async fn collect(
    machine: &Machine,
    spec: CollectSpec,
) -> (BTreeMap<String, Vec<u8>>, microvm::guest_client::Collected) {
    let mut collect = machine.guest().collect(spec).await.unwrap();
    let mut files = BTreeMap::new();
    while let Some(mut file) = collect.next_file().await.unwrap() {
        let mut content = Vec::new();
        file.read_to_end(&mut content).await.unwrap();
        assert_eq!(content.len() as u64, file.header.size);
        files.insert(file.header.path.clone(), content);
    }
    (files, collect.finish().await.unwrap())
}

fn kind<T: std::fmt::Debug>(result: Result<T, GuestError>) -> FailureKind {
    match result.unwrap_err() {
        GuestError::Failed(failure) => failure.kind,
        other => panic!("{other}"),
    }
}

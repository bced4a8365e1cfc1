//! Tar streams to the merged tar: never a panic, never a name outside, and what is written can be read
//! again with the same result.
#![no_main]

use fuzz::layer::{Budget, Spool, read_layer};
use fuzz::merge;
use fuzz::tar::{Kind, TarReader};
use fuzz::tree::{Dir, components};
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 512;

fuzz_target!(|data: &[u8]| {
    let Some((split, data)) = data.split_first() else { return };
    let mut data = data.to_vec();
    // Without right checksums hardly anything gets past the first header.
    for block in data.chunks_exact_mut(BLOCK) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let at = (usize::from(*split) * BLOCK).min(data.len());
    let (lower, upper) = data.split_at(at);
    let Some((first, spool)) = merged(&[lower, upper]) else { return };
    for entry in entries(&first) {
        let parts = components(&entry.path).expect("only acceptable paths are written");
        assert!(!parts.is_empty() && entry.kind != Kind::Device);
        let whiteout = parts.last().is_some_and(|name| name.starts_with(b".wh."));
        assert!(!whiteout, "no whiteout is left");
    }
    drop(spool);
    let (second, _) = merged(&[&first]).expect("what is written is acceptable");
    assert!(first == second, "writing is stable");
});

/// The merged view as a tar stream.
fn merged(layers: &[&[u8]]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut spool = Spool::new(Vec::new());
    let mut budget = Budget::new(2_000);
    let mut view = Dir::default();
    for layer in layers {
        let tree = read_layer(*layer, &mut spool, &mut budget).ok()?;
        merge::apply(&mut view, tree).ok()?;
    }
    let extent = merge::measure(&view).ok()?;
    let (content, _) = spool.finish().expect("memory");
    let mut out = Vec::new();
    merge::write_tar(&view, &mut out, |offset, len| {
        &content[offset as usize..(offset + len) as usize]
    })
    .expect("memory");
    let written: u64 = entries(&out).iter().map(|entry| entry.size).sum();
    assert_eq!(written, extent.content);
    assert_eq!(entries(&out).len() as u64, extent.entries);
    Some((out, content))
}

fn entries(archive: &[u8]) -> Vec<fuzz::tar::Entry> {
    let mut reader = TarReader::new(archive);
    std::iter::from_fn(|| reader.next_entry().expect("our own archive")).collect()
}

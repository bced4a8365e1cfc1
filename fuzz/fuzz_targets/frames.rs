//! What a guest sends: however it is cut, the same frames or the same error, within the limit; and every
//! frame that is understood survives being written again.
#![no_main]

use guest_wire::message::GuestMessage;
use guest_wire::{BULK_FRAME_MAX, BulkFrame, Decoder};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(decode(bytes, usize::from(step) + 1), whole);
    for frame in whole.0 {
        assert!(frame.len() <= LIMIT);
        let _: Result<GuestMessage, _> = serde_json::from_slice(&frame);
        if let Ok(known) = BulkFrame::decode(frame) {
            let mut written = Vec::new();
            known.encode(&mut written).expect("it came in a frame");
            let mut decoder = Decoder::new(BULK_FRAME_MAX);
            let again = decoder.next_frame(&mut written.as_slice());
            assert_eq!(BulkFrame::decode(again.expect("ours").expect("whole")), Ok(known));
        }
    }
});

/// The frames, and whether the stream broke.
fn decode(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = Decoder::new(LIMIT);
    let mut frames = Vec::new();
    for mut chunk in bytes.chunks(step) {
        loop {
            match decoder.next_frame(&mut chunk) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

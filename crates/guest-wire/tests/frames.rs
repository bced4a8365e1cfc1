//! Properties of the decoder: however the bytes arrive, the frames are the same, and garbage never panics.

use guest_wire::{BulkFrame, Decoder, Tag, encode};
use proptest::prelude::*;

fn decode_all(max: usize, chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, guest_wire::FrameError> {
    let mut decoder = Decoder::new(max);
    let mut frames = Vec::new();
    for chunk in chunks {
        let mut input = *chunk;
        while let Some(frame) = decoder.next_frame(&mut input)? {
            frames.push(frame);
        }
        assert!(input.is_empty(), "everything is consumed");
    }
    Ok(frames)
}

fn bulk_frame() -> impl Strategy<Value = BulkFrame> {
    let tag = prop_oneof![
        Just(Tag::Plain),
        Just(Tag::Stdout),
        Just(Tag::Stderr),
        Just(Tag::FileHeader),
        Just(Tag::FileEnd)
    ];
    prop_oneof![
        any::<u32>().prop_map(|stream| BulkFrame::Open { stream }),
        (any::<u32>(), tag, proptest::collection::vec(any::<u8>(), 0..600))
            .prop_map(|(stream, tag, data)| BulkFrame::Data { stream, tag, data }),
        any::<u32>().prop_map(|stream| BulkFrame::End { stream }),
        any::<(u32, u32)>().prop_map(|(stream, bytes)| BulkFrame::Credit { stream, bytes }),
        (any::<u32>(), ".{0,80}").prop_map(|(stream, reason)| BulkFrame::Reset { stream, reason }),
    ]
}

proptest! {
    #[test]
    fn frames_survive_any_cutting(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        step in 1usize..40,
    ) {
        let mut bytes = Vec::new();
        for body in &bodies {
            encode(&[body], 300, &mut bytes).unwrap();
        }
        let chunks: Vec<&[u8]> = bytes.chunks(step).collect();
        prop_assert_eq!(decode_all(300, &chunks).unwrap(), bodies);
    }

    #[test]
    fn garbage_gives_frames_within_the_limit_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        step in 1usize..100,
    ) {
        let chunks: Vec<&[u8]> = bytes.chunks(step).collect();
        if let Ok(frames) = decode_all(64, &chunks) {
            prop_assert!(frames.iter().all(|frame| frame.len() <= 64));
            for frame in frames {
                let _: Result<_, _> = BulkFrame::decode(frame);
            }
        }
    }

    #[test]
    fn bulk_frames_survive_the_wire(frames in proptest::collection::vec(bulk_frame(), 0..8)) {
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.encode(&mut bytes).unwrap();
        }
        let back: Vec<BulkFrame> = decode_all(guest_wire::BULK_FRAME_MAX, &[&bytes])
            .unwrap()
            .into_iter()
            .map(|frame| BulkFrame::decode(frame).unwrap())
            .collect();
        prop_assert_eq!(back, frames);
    }
}

//! LZ4 as the kernel's own build makes it ("legacy" frames); decoding only.
//! Formats: `lz4_Frame_format.md` (Legacy frame) and `lz4_Block_format.md` of the LZ4 project.

/// Starts a legacy frame.
pub const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// No block of a legacy frame is larger when decoded.
const BLOCK_MAX: usize = 8 << 20;
const SHORTEST_MATCH: usize = 4;

/// Decodes a legacy frame; what follows its last block is ignored. `None` if it is damaged or exceeds `max`.
pub fn decode(data: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut rest = data.strip_prefix(&MAGIC)?;
    let mut out = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size) as usize;
        // The kernel's build appends the decoded size, which is no block.
        if size == 0 || size > after.len() {
            break;
        }
        let (block, after) = after.split_at(size);
        decode_block(block, &mut out, max)?;
        rest = after;
    }
    (!out.is_empty()).then_some(out)
}

fn decode_block(mut block: &[u8], out: &mut Vec<u8>, max: usize) -> Option<()> {
    let start = out.len();
    loop {
        let (&token, rest) = block.split_first()?;
        block = rest;
        let literals = length(usize::from(token >> 4), &mut block)?;
        let (bytes, rest) = block.split_at_checked(literals)?;
        out.extend_from_slice(bytes);
        block = rest;
        // The last sequence has literals only.
        if block.is_empty() {
            return Some(());
        }
        let (offset, rest) = block.split_first_chunk::<2>()?;
        block = rest;
        let offset = usize::from(u16::from_le_bytes(*offset));
        let matched = length(usize::from(token & 15), &mut block)? + SHORTEST_MATCH;
        let limit = max.min(start + BLOCK_MAX);
        if offset == 0 || offset > out.len() - start || out.len() + matched > limit {
            return None;
        }
        // May overlap what it writes: that is how runs are coded.
        for _ in 0..matched {
            out.push(out[out.len() - offset]);
        }
    }
}

fn length(nibble: usize, block: &mut &[u8]) -> Option<usize> {
    let mut length = nibble;
    if nibble == 15 {
        loop {
            let (&byte, rest) = block.split_first()?;
            *block = rest;
            length += usize::from(byte);
            if byte != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(block: &[u8]) -> Vec<u8> {
        let size = u32::try_from(block.len()).unwrap().to_le_bytes();
        [&MAGIC, &size[..], block, &1234u32.to_le_bytes()].concat()
    }

    #[test]
    fn literals_and_overlapping_matches() {
        // "ab", then a match of 4+4 bytes two back, then the literals "!".
        let block = [0x24, b'a', b'b', 2, 0, 0x10, b'!'];
        assert_eq!(decode(&frame(&block), 100).unwrap(), b"ababababab!");
    }

    #[test]
    fn damage_and_bombs_are_refused() {
        assert_eq!(decode(b"nope", 100), None);
        assert_eq!(decode(&frame(&[0x24, b'a', b'b', 9, 0, 0x10, b'!']), 100), None, "offset");
        assert_eq!(decode(&frame(&[0x2f, b'a', b'b', 2, 0, 255, 255, 0, 0x10, b'!']), 100), None);
        assert_eq!(decode(&frame(&[0xf0]), 100), None, "cut");
    }
}

//! The messages that the client sends: numbered, and recognizable on the link whether whole or cut.
//!
//! Next: `checker/frames.rs`, which decodes them.

use crate::network::mix;

const MAGIC: u8 = 0xA5;
const HEADER: usize = 7;

/// The bits of a message number from this one on are the number of its writer.
pub const WRITER_SHIFT: u32 = 20;

/// The bytes of a message: magic, number, length of the payload, payload.
pub fn encode(number: u32, length: u16) -> Vec<u8> {
    let mut bytes = vec![MAGIC];
    bytes.extend(number.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend((0..length).map(|position| payload(number, position)));
    bytes
}

/// Decodes the bytes of one link: the numbers of its messages, and whether the last one is whole.
///
/// A last message that is cut in its header does not count.
pub fn decode(mut bytes: &[u8]) -> Result<(Vec<u32>, bool), String> {
    let mut numbers = Vec::new();
    while let Some(&magic) = bytes.first() {
        if magic != MAGIC {
            return Err(format!("after messages {numbers:?} comes a part of another message"));
        }
        let [_, a, b, c, d, e, f, ..] = *bytes else { break };
        let (number, length) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
        numbers.push(number);
        let content = &bytes[HEADER..];
        let present = content.len().min(usize::from(length));
        if (0..present).any(|at| content[at] != payload(number, at as u16)) {
            return Err(format!("message {number} has wrong bytes"));
        }
        if present < usize::from(length) {
            return Ok((numbers, false));
        }
        bytes = &content[present..];
    }
    Ok((numbers, true))
}

/// The first message, if it is whole: its number and its length with the header.
pub fn first_whole(bytes: &[u8]) -> Option<(u32, usize)> {
    let [_, a, b, c, d, e, f, ..] = *bytes else { return None };
    let length = HEADER + usize::from(u16::from_be_bytes([e, f]));
    (length <= bytes.len()).then_some((u32::from_be_bytes([a, b, c, d]), length))
}

fn payload(number: u32, position: u16) -> u8 {
    mix(u64::from(number) << 16 | u64::from(position)) as u8
}

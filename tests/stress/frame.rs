//! What passes over a link: frames from the client, acknowledgements from the server.
//!
//! Each frame names its client, its task and its job, and has a checksum over everything. So a frame that is torn, or
//! mixed with the bytes of another one, is no frame.
//!
//! Next: [`jobs`](crate::jobs), which frames must arrive.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Client, task, job, length, checksum.
pub(crate) const HEADER: usize = 4 + 4 + 8 + 4 + 8;
const SUM: usize = HEADER - 8;

pub(crate) const LONGEST_PAYLOAD: usize = 100 * 1024;

/// What a frame says, apart from its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) client: u32,
    pub(crate) task: u32,
    pub(crate) job: u64,
    pub(crate) length: usize,
}

impl Frame {
    /// The frame with a payload that looks like no other job's.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + self.length];
        bytes[0..4].copy_from_slice(&self.client.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.task.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.job.to_be_bytes());
        bytes[16..20].copy_from_slice(&(self.length as u32).to_be_bytes());
        let seed = self.job ^ u64::from(self.client) << 40 ^ u64::from(self.task) << 32;
        SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes[HEADER..]);
        let sum = checksum(&bytes[..SUM], &bytes[HEADER..]);
        bytes[SUM..HEADER].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// Over whole words, as tests are not optimised.
fn checksum(header: &[u8], payload: &[u8]) -> u64 {
    let words = header.chunks(8).chain(payload.chunks(8)).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_be_bytes(word)
    });
    words.fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29))
}

/// Finds the frames in the bytes of one link, from its first byte on.
#[derive(Default)]
pub(crate) struct FrameReader {
    /// The beginning of a frame whose end is still to come.
    cut: Vec<u8>,
}

impl FrameReader {
    /// Takes what was read. An error: these are not the bytes of whole frames, one after the other.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Frame)) -> Result<(), String> {
        self.cut.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(frame) = first_frame(&self.cut[used..])? {
            used += HEADER + frame.length;
            found(frame);
        }
        self.cut.drain(..used);
        Ok(())
    }

    /// How many bytes of a frame have come whose end has not.
    pub(crate) fn cut(&self) -> usize {
        self.cut.len()
    }
}

/// The frame at the start of `bytes`. `None`: it has not arrived whole yet.
fn first_frame(bytes: &[u8]) -> Result<Option<Frame>, String> {
    if bytes.len() < HEADER {
        return Ok(None);
    }
    let half_word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
    let length = half_word(16) as usize;
    let frame = Frame { client: half_word(0), task: half_word(4), job: word(bytes, 8), length };
    if length > LONGEST_PAYLOAD {
        return Err(format!("not the start of a frame: {frame:x?}"));
    }
    if bytes.len() < HEADER + length {
        return Ok(None);
    }
    if checksum(&bytes[..SUM], &bytes[HEADER..HEADER + length]) != word(bytes, SUM) {
        return Err(format!("torn or mixed, by its checksum: {frame:x?}"));
    }
    Ok(Some(frame))
}

/// The server's answer to one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The server's number of the link, from 1.
    pub(crate) link: u64,
    /// How many frames it has answered on this link before.
    pub(crate) index: u64,
}

impl Ack {
    pub(crate) const LENGTH: usize = 8 + 8 + 8;

    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[0..8].copy_from_slice(&self.link.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.index.to_be_bytes());
        let sum = checksum(&bytes[..16], &[]);
        bytes[16..].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// `None`: not the bytes of an acknowledgement.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ack = Self { link: word(bytes, 0), index: word(bytes, 8) };
        (bytes == ack.to_bytes()).then_some(ack)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// The checker itself: it finds each fault that it is there for.
#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Frame = Frame { client: 1, task: 2, job: 3, length: 100 };
    const SECOND: Frame = Frame { client: 1, task: 4, job: 0, length: 50_000 };

    fn frames(bytes: &[u8]) -> Result<Vec<Frame>, String> {
        let mut found = Vec::new();
        FrameReader::default().feed(bytes, |frame| found.push(frame)).map(|()| found)
    }

    /// Whether a fault is found, at the latest after as many bytes as the longest frame has.
    fn is_caught(parts: &[&[u8]]) -> bool {
        let more = Frame { length: LONGEST_PAYLOAD, ..SECOND }.to_bytes();
        frames(&[&parts.concat()[..], &more].concat()).is_err()
    }

    #[test]
    fn whole_frames_are_found_however_they_are_cut_into_reads() {
        let bytes = [FIRST.to_bytes(), SECOND.to_bytes()].concat();
        for size in [1, 7, HEADER, 4096, bytes.len()] {
            let (mut reader, mut found) = (FrameReader::default(), Vec::new());
            bytes.chunks(size).for_each(|chunk| reader.feed(chunk, |frame| found.push(frame)).unwrap());
            assert_eq!(found, [FIRST, SECOND]);
            assert_eq!(reader.cut(), 0);
        }
    }

    #[test]
    fn torn_frame_is_caught_wherever_it_is_torn() {
        let (first, second) = (FIRST.to_bytes(), SECOND.to_bytes());
        for at in 1..first.len() {
            // The end of a link's last frame never came, and the next frame follows.
            assert!(is_caught(&[&first[..at], &second]), "cut at {at}");
            // The rest of a frame stands at the beginning of a link.
            assert!(is_caught(&[&first[at..], &second]), "begins at {at}");
        }
    }

    #[test]
    fn mixed_frames_are_caught() {
        let (first, second) = (FIRST.to_bytes(), SECOND.to_bytes());
        assert!(is_caught(&[&second[..600], &first, &second[600..]]));
    }

    #[test]
    fn doubled_and_missing_bytes_are_caught() {
        let (first, second) = (FIRST.to_bytes(), SECOND.to_bytes());
        for at in [0, 5, HEADER, 700] {
            assert!(is_caught(&[&second[..at + 8], &second[at..], &first]), "doubled at {at}");
            assert!(is_caught(&[&second[..at], &second[at + 8..], &first]), "missing at {at}");
        }
    }

    #[test]
    fn cut_frame_at_the_end_of_a_link_is_no_fault() {
        let (first, second) = (FIRST.to_bytes(), SECOND.to_bytes());
        assert_eq!(frames(&[&first, &second[..999]].concat()).unwrap(), [FIRST]);
    }

    #[test]
    fn acknowledgement_is_known_by_its_checksum() {
        let ack = Ack { link: 3, index: 4 };
        let mut bytes = ack.to_bytes();
        assert_eq!(Ack::from_bytes(&bytes), Some(ack));
        bytes[7] ^= 1;
        assert_eq!(Ack::from_bytes(&bytes), None);
    }
}

//! The records that both ends send: numbered, marked with their link, and checksummed, so that the receiver can tell a
//! record that is torn, repeated, skipped or on the wrong link.

use std::io;

/// No record has a longer payload; a length above it is no length.
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;

/// Link, number, answered number, length, checksum.
pub(crate) const HEADER: usize = 8 + 8 + 8 + 4 + 8;

/// What a record says, apart from its payload, which follows from the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The sender's number of the link that it means to send on.
    pub(crate) link: u64,
    /// The client counts through all links, the server afresh on each.
    pub(crate) number: u64,
    /// The number of the request that this record answers, 0 if none.
    pub(crate) answers: u64,
    pub(crate) length: usize,
}

impl Record {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.length);
        bytes.extend(self.link.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.answers.to_be_bytes());
        bytes.extend((self.length as u32).to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend((0..self.length).map(|i| (self.number as usize + i) as u8));
        let sum = checksum(&bytes);
        bytes[HEADER - 8..HEADER].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// FNV-1a over everything but the checksum itself.
fn checksum(record: &[u8]) -> u64 {
    let parts = record[..HEADER - 8].iter().chain(&record[HEADER..]);
    parts.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Finds the records in the bytes of one link.
#[derive(Default)]
pub(crate) struct Parser {
    half: Vec<u8>,
}

impl Parser {
    /// Takes what was read. An error: these are not the bytes of whole records, one after the other.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Record)) -> io::Result<()> {
        self.half.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((record, len)) = first_record(&self.half[used..])? {
            used += len;
            found(record);
        }
        self.half.drain(..used);
        Ok(())
    }

    /// Forgets the half-received record of a link that broke.
    pub(crate) fn clear(&mut self) {
        self.half.clear();
    }
}

/// The record at the start of `bytes`, and how many of them it takes. `None`: it is not there as a whole yet.
fn first_record(bytes: &[u8]) -> io::Result<Option<(Record, usize)>> {
    let Some((header, _)) = bytes.split_at_checked(HEADER) else { return Ok(None) };
    let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| header[at + i]));
    let length = u32::from_be_bytes(std::array::from_fn(|i| header[24 + i])) as usize;
    let record = Record { link: word(0), number: word(8), answers: word(16), length };
    if length > MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no start of a record: {record:x?}")));
    }
    let Some((whole, _)) = bytes.split_at_checked(HEADER + length) else { return Ok(None) };
    if checksum(whole) != word(28) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("torn, by its checksum: {record:x?}")));
    }
    Ok(Some((record, whole.len())))
}

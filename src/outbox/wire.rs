//! The bytes that are being written: messages where they lie, or what a protocol has made of them.
//!
//! Next: [`Codec::encode`](super::codec::Codec::encode), which fills it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use tokio_util::bytes::BytesMut;

use super::store::BATCH_BYTES;

/// Pieces shorter than this are copied behind one another: a copy is cheaper than another system call.
const SHORT: usize = 8 * 1024;

/// Bytes in the order in which they go out.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// What goes out first: long pieces that are not copied.
    pieces: VecDeque<Bytes>,
    /// What goes out then.
    pub(super) encoded: BytesMut,
}

impl Wire {
    /// Whether all has been written.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.encoded.is_empty()
    }

    /// What to write next. Not empty if there is any.
    pub(super) fn next(&self) -> &[u8] {
        self.pieces.front().map_or(&self.encoded, |piece| piece)
    }

    /// The next `len` bytes were written.
    pub(super) fn advance(&mut self, len: usize) {
        match self.pieces.front_mut() {
            Some(piece) if piece.len() > len => piece.advance(len),
            Some(_) => drop(self.pieces.pop_front()),
            None => {
                self.encoded.advance(len);
                if self.encoded.is_empty() && self.encoded.capacity() > 2 * BATCH_BYTES {
                    self.encoded = BytesMut::new();
                }
            }
        }
    }

    /// Appends a piece without a copy, if that is worth it.
    pub(super) fn push(&mut self, piece: &Bytes) {
        if piece.len() < SHORT || !self.encoded.is_empty() {
            self.encoded.extend_from_slice(piece);
        } else {
            self.pieces.push_back(piece.clone());
        }
    }

    /// Forgets all of it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_out_in_order_and_long_ones_are_not_copied() {
        let (long, short) = (Bytes::from(vec![b'l'; SHORT]), Bytes::from_static(b"short"));
        let mut wire = Wire::default();
        for piece in [&long, &long, &short, &long, &short] {
            wire.push(piece);
        }
        assert_eq!(wire.next().as_ptr(), long.as_ptr());
        let mut written = Vec::new();
        while !wire.is_empty() {
            let len = wire.next().len().min(5_000);
            written.extend_from_slice(&wire.next()[..len]);
            wire.advance(len);
        }
        assert_eq!(written, [&long[..], &long[..], &short[..], &long[..], &short[..]].concat());
    }
}

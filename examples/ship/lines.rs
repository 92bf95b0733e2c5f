//! Splits what was read into lines.

use bytes::{Bytes, BytesMut};

/// A longer line is sent in pieces of this many bytes: a log line must not fill the memory.
pub(crate) const LONGEST: usize = 64 << 10;

/// What was read and is not yet a whole line.
#[derive(Default)]
pub(crate) struct Lines {
    partial: BytesMut,
    /// Up to here there is no line feed.
    searched: usize,
}

impl Lines {
    /// Where the next bytes are to be put.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.partial
    }

    /// How many bytes are here that are no whole line.
    pub(crate) fn len(&self) -> usize {
        self.partial.len()
    }

    /// The next line without its end, and how many bytes it took.
    pub(crate) fn next(&mut self) -> Option<(Bytes, usize)> {
        let line_feed = self.partial[self.searched..].iter().position(|byte| *byte == b'\n');
        match line_feed.map(|at| self.searched + at) {
            Some(end) if end <= LONGEST => {
                let taken = self.partial.split_to(end + 1);
                self.searched = 0;
                Some((without_end(taken), end + 1))
            }
            _ if self.partial.len() > LONGEST => {
                self.searched = 0;
                Some((self.partial.split_to(LONGEST).freeze(), LONGEST))
            }
            _ => {
                self.searched = self.partial.len();
                None
            }
        }
    }

    /// What is left at the end of the input: a line without its end.
    pub(crate) fn rest(&mut self) -> Option<(Bytes, usize)> {
        let len = self.partial.len();
        self.searched = 0;
        (len > 0).then(|| (without_end(self.partial.split()), len))
    }
}

fn without_end(line: BytesMut) -> Bytes {
    let mut line = line.freeze();
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.truncate(line.len() - 1);
        }
    }
    line
}

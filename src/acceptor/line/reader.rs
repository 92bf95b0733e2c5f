//! Lines out of a stream.

use std::io;

use tokio::io::{AsyncReadExt, ReadHalf};

use super::{LineTooLong, Stream};

/// How much is read at a time.
const CHUNK: usize = 4096;

pub(super) struct LineReader {
    half: ReadHalf<Stream>,
    buffer: Vec<u8>,
    /// What of the buffer was handed out already.
    start: usize,
    /// Up to here there is no line feed.
    searched: usize,
    max: usize,
}

impl LineReader {
    pub(super) fn new(half: ReadHalf<Stream>, max: usize) -> Self {
        Self { half, buffer: Vec::new(), start: 0, searched: 0, max }
    }

    /// The next line, without its end. `None` at the end of the stream: a line without an end is none.
    ///
    /// Cancel safe: what was read stays in the buffer.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take()? {
                return Ok(Some(line));
            }
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > 2 * CHUNK {
                // One long line shall not take the memory for ever.
                self.buffer = Vec::new();
            }
            self.buffer.reserve(CHUNK);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether something is here of a line that was not handed out.
    pub(super) fn has_begun(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// How many lines are here, with one that has only begun. (It looks at every byte.)
    pub(super) fn count(&self) -> usize {
        let here = &self.buffer[self.start..];
        let whole = here.iter().filter(|byte| **byte == b'\n').count();
        whole + usize::from(here.last().is_some_and(|byte| *byte != b'\n'))
    }

    pub(super) fn into_inner(self) -> ReadHalf<Stream> {
        self.half
    }

    fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        let too_long = || Err(io::Error::new(io::ErrorKind::InvalidData, LineTooLong(self.max)));
        let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            // A carriage return may be the beginning of the end.
            let length = self.searched - self.start;
            let is_over = length > self.max && !(length == self.max + 1 && self.buffer.ends_with(b"\r"));
            return if is_over { too_long() } else { Ok(None) };
        };
        let end = self.searched + at;
        let line = &self.buffer[self.start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.max {
            return too_long();
        }
        let line = line.to_vec();
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(line))
    }
}

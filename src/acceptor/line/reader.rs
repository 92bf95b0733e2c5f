//! The receiving side of a connection of lines.
//!
//! Next: [`super::writer`], the sending side.

use std::io::{self, BufRead};

use tokio::io::{AsyncReadExt, ReadHalf};

use super::{LineSettings, LineTooLong, Stream};

/// How much is read at once.
const CHUNK: usize = 4096;

/// The same until a read has filled its buffer. Most clients never send that much at once, and an allocator has room of this size
/// at hand, for each of a thousand clients.
const FIRST_CHUNK: usize = 512;

/// Splits a stream into lines.
pub(super) struct LineReader {
    /// Only the reading side: another task may be sending meanwhile.
    half: ReadHalf<Stream>,
    /// What was read: lines that were handed out, lines that were not, and the beginning of one.
    buffer: Vec<u8>,
    /// Where the first line begins that is not handed out.
    start: usize,
    /// There is no line feed between `start` and here.
    searched: usize,
    /// How much is read at once.
    chunk: usize,
    /// A read has found the end of the stream.
    has_ended: bool,
    /// The longest line, without its end.
    max: usize,
    /// Whether bytes without an end are a line at the end of the stream.
    last_without_end: bool,
}

impl LineReader {
    /// Nothing is read yet.
    pub(super) fn new(half: ReadHalf<Stream>, settings: &LineSettings) -> Self {
        let (max, last_without_end) = (settings.max_length, settings.last_without_end);
        Self {
            half,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            chunk: FIRST_CHUNK,
            has_ended: false,
            max,
            last_without_end,
        }
    }

    /// The next line, without its end. `None` at the end of the stream; a line without an end is dropped, unless it is one by
    /// the settings.
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
            if self.buffer.len() <= CHUNK {
                // One long line must not hold the memory for ever, whether or not another one has begun.
                self.buffer.shrink_to(2 * CHUNK);
            }
            self.buffer.reserve(self.chunk);
            let read = self.half.read_buf(&mut self.buffer).await?;
            if self.buffer.len() == self.buffer.capacity() {
                self.chunk = CHUNK;
            }
            if read == 0 {
                self.has_ended = true;
                // A stop ends no stream here, as what has arrived is under way.
                if !self.last_without_end || !self.has_partial() {
                    return Ok(None);
                }
                self.searched = 0;
                let line = std::mem::take(&mut self.buffer);
                return if line.len() > self.max { self.too_long() } else { Ok(Some(line)) };
            }
        }
    }

    /// Whether a read has found the end of the stream: the peer's, unless the acceptor stops.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether bytes of a line that was not handed out are here.
    pub(super) fn has_partial(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// How many lines are here, including one that has only begun. It looks at every byte.
    pub(super) fn count(&self) -> usize {
        let here = &self.buffer[self.start..];
        let whole = here.iter().filter(|byte| **byte == b'\n').count();
        whole + usize::from(here.last().is_some_and(|byte| *byte != b'\n'))
    }

    /// The half. What is in the buffer is dropped.
    pub(super) fn into_inner(self) -> ReadHalf<Stream> {
        self.half
    }

    /// Takes a line that is here already. `None` if it has not all arrived; an error if it is too long.
    fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(end) = self.find_line_feed() else {
            self.searched = self.buffer.len();
            // A carriage return may be part of the line's end.
            let length = self.searched - self.start;
            let is_too_long = length > self.max && !(length == self.max + 1 && self.buffer.ends_with(b"\r"));
            return if is_too_long { self.too_long() } else { Ok(None) };
        };
        let line = &self.buffer[self.start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.max {
            return self.too_long();
        }
        let line = line.to_vec();
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(line))
    }

    /// Where the next line feed is. A search for a byte in a slice is private in std, but for this.
    fn find_line_feed(&self) -> Option<usize> {
        let mut rest = &self.buffer[self.searched..];
        let length = rest.skip_until(b'\n').ok()?;
        let end = (self.searched + length).checked_sub(1)?;
        (length > 0 && self.buffer[end] == b'\n').then_some(end)
    }

    /// The error of a line that is too long.
    fn too_long<T>(&self) -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::InvalidData, LineTooLong(self.max)))
    }
}

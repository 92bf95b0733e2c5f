//! A decoder that takes the notifications out of the bytes that the server sends. No I/O, no clock.
//!
//! `tokio-postgres` would return them one at a time, each with two allocations and a check of everything else that a
//! connection may have to do: that costs half of the throughput. The server may put a notification between any two
//! other messages, so the other messages are as well-formed without it.
//!
//! Next: [`SwapStream`](super::stream::SwapStream), which reads through it.

use super::Notification;

/// Room for several notifications of the largest kind, or for hundreds of the usual kind.
const SIZE: usize = 32 << 10;

/// The kind and the length of a message.
const HEAD: usize = 5;

/// Bytes that were read and not forwarded yet, and the notifications among them.
pub(super) struct NotificationDecoder {
    /// The buffer. Unread bytes are in `start..end`.
    bytes: Vec<u8>,
    /// The next byte to decode or to forward.
    start: usize,
    /// The end of what was read, where the next read continues.
    end: usize,
    /// How many bytes of the current message are still to be forwarded.
    forwarding: usize,
    /// How many notifications are decoded before [`take`](NotificationDecoder::take) has to be called.
    limit: usize,
    /// The notifications that the caller has not taken yet.
    decoded: Vec<Notification>,
    /// The process id that the server has named for requests to cancel a query (BackendKeyData).
    key_process_id: Option<i32>,
}

/// What the caller has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DecoderStep {
    /// Call [`NotificationDecoder::forward`].
    Forward,
    /// Read into [`NotificationDecoder::space`], which is not empty.
    Read,
    /// Call [`NotificationDecoder::take`]: the limit is reached, and there may be another notification.
    Full,
}

impl NotificationDecoder {
    /// A decoder without a limit. It allocates its buffer with the first read.
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            end: 0,
            forwarding: 0,
            limit: usize::MAX,
            decoded: Vec::new(),
            key_process_id: None,
        }
    }

    /// Decodes at most this many notifications between two calls of [`take`](NotificationDecoder::take).
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Decodes as far as possible, and says what the caller has to do next.
    pub(super) fn step(&mut self) -> DecoderStep {
        loop {
            let unread = &self.bytes[self.start..self.end];
            if self.forwarding > 0 {
                return if unread.is_empty() { DecoderStep::Read } else { DecoderStep::Forward };
            }
            let Some((head, body)) = unread.split_first_chunk::<HEAD>() else { return DecoderStep::Read };
            let [kind, length @ ..] = *head;
            // The length includes itself, but not the kind.
            let length = (u32::from_be_bytes(length) as usize).saturating_add(1);
            if length < HEAD {
                // Nobody knows where the next message begins. `tokio-postgres` reports it.
                self.forwarding = usize::MAX;
                continue;
            }
            if kind == b'K' && length >= HEAD + 4 && self.key_process_id.is_none() {
                let Some((process_id, _)) = body.split_first_chunk::<4>() else { return DecoderStep::Read };
                self.key_process_id = Some(i32::from_be_bytes(*process_id));
            }
            if kind != b'A' || length > SIZE {
                self.forwarding = length;
                continue;
            }
            if self.decoded.len() >= self.limit {
                return DecoderStep::Full;
            }
            let Some(body) = body.get(..length - HEAD) else { return DecoderStep::Read };
            match parse(body) {
                Some(notification) => {
                    self.decoded.push(notification);
                    self.start += length;
                }
                // `tokio-postgres` reports what is wrong with it.
                None => self.forwarding = length,
            }
        }
    }

    /// At most this many bytes to forward unchanged.
    pub(super) fn forward(&mut self, max: usize) -> &[u8] {
        let length = self.forwarding.min(self.end - self.start).min(max);
        let start = self.start;
        self.start += length;
        self.forwarding -= length;
        &self.bytes[start..self.start]
    }

    /// The space to read into.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = vec![0; SIZE];
        }
        // An incomplete notification is shorter than the whole buffer, so some space is left behind it.
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.bytes[self.end..]
    }

    /// Records that this many bytes were read into the space.
    pub(super) fn filled(&mut self, length: usize) {
        self.end += length;
    }

    /// The process id that the server has named. Behind a pooler it is not that of the process that runs the queries.
    pub(super) fn key_process_id(&self) -> Option<i32> {
        self.key_process_id
    }

    /// Appends the decoded notifications to `to`.
    pub(super) fn take(&mut self, to: &mut Vec<Notification>) {
        to.append(&mut self.decoded);
    }
}

/// Parses the process id, the channel and the payload.
fn parse(body: &[u8]) -> Option<Notification> {
    let (process_id, rest) = body.split_first_chunk::<4>()?;
    // Channel and payload each end with a NUL and contain no other.
    let text = std::str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
    let (channel, payload) = text.split_once('\0')?;
    if payload.contains('\0') {
        return None;
    }
    Some(Notification::new(i32::from_be_bytes(*process_id), channel, payload))
}

#[cfg(test)]
mod tests;

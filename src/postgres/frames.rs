//! Takes the notifications out of what the server sends. No I/O, no clock.
//!
//! `tokio-postgres` would hand them out one by one, each with two allocations and a look at everything else that a
//! connection may have to do: half of the throughput. The server may put a notification between any two other messages, so
//! that the others are as well-formed without it.

use super::Notification;

/// Room for some notifications of the largest kind, or for hundreds of the usual one.
const SIZE: usize = 32 << 10;

/// The kind and the length of a message.
const HEAD: usize = 5;

/// What was read, and not passed on yet.
pub(super) struct Frames {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// How much of the message at hand goes on as it is.
    passing: usize,
    /// How many notifications may lie here.
    limit: usize,
    arrived: Vec<Notification>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// [`Frames::pass`].
    Pass,
    /// Read into [`Frames::space`]; there is some.
    Read,
    /// [`Frames::take`]: there may be another notification.
    Full,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, passing: 0, limit: usize::MAX, arrived: Vec::new() }
    }

    /// From now on, no more than so many notifications are taken at a time.
    pub(super) fn limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn step(&mut self) -> Step {
        loop {
            let held = &self.bytes[self.start..self.end];
            if self.passing > 0 {
                return if held.is_empty() { Step::Read } else { Step::Pass };
            }
            let Some((head, body)) = held.split_first_chunk::<HEAD>() else { return Step::Read };
            let [kind, length @ ..] = *head;
            // The length counts itself, and not the kind.
            let length = u32::from_be_bytes(length) as usize + 1;
            if kind != b'A' || !(HEAD..=SIZE).contains(&length) {
                self.passing = length.max(HEAD);
                continue;
            }
            if self.arrived.len() >= self.limit {
                return Step::Full;
            }
            let Some(body) = body.get(..length - HEAD) else { return Step::Read };
            match parse(body) {
                Some(notification) => {
                    self.arrived.push(notification);
                    self.start += length;
                }
                // Others may say what is wrong with it.
                None => self.passing = length,
            }
        }
    }

    /// Bytes that go on as they are, no more than so many.
    pub(super) fn pass(&mut self, most: usize) -> &[u8] {
        let length = self.passing.min(self.end - self.start).min(most);
        let start = self.start;
        self.start += length;
        self.passing -= length;
        &self.bytes[start..self.start]
    }

    /// Where to read to.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = vec![0; SIZE];
        }
        // A message that does not go on is shorter than all of it.
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.bytes[self.end..]
    }

    /// So many bytes have been read to there.
    pub(super) fn filled(&mut self, length: usize) {
        self.end += length;
    }

    /// The notifications that have arrived, behind those that are there.
    pub(super) fn take(&mut self, to: &mut Vec<Notification>) {
        to.append(&mut self.arrived);
    }
}

/// The process id, the channel, the payload.
fn parse(body: &[u8]) -> Option<Notification> {
    let (process_id, rest) = body.split_first_chunk::<4>()?;
    // Both end with a NUL, and have no other.
    let text = std::str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
    let (channel, payload) = text.split_once('\0')?;
    if payload.contains('\0') {
        return None;
    }
    Some(Notification::new(i32::from_be_bytes(*process_id), channel, payload))
}

#[cfg(test)]
mod tests;

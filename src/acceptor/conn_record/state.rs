//! The state of a connection in two enums, packed into one byte.
//!
//! Next: [`super::ConnRecord`], whose methods make the transitions.

/// How a connection is being stopped. It only ever moves down this list, any number of steps at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::acceptor) enum StopState {
    /// Nothing stops it.
    Open,
    /// The acceptor stops ([`super::ConnRecord::drain`]). The next read that finds nothing under way returns `Ok(0)`.
    Draining,
    /// Its line handler has ended ([`super::ConnRecord::end`]). A `send` by another task fails.
    Ended,
    /// The acceptor has cut it ([`super::ConnRecord::cut`]). Its handler is dropped, and every operation fails. Final.
    Cut,
}

/// What is under way on a connection.
///
/// | method | request | write |
/// |---|---|---|
/// | [`super::ConnRecord::request_received`] | set | |
/// | [`super::ConnRecord::message_done`] | cleared | |
/// | [`super::ConnRecord::write_blocked`] | | set |
/// | [`super::ConnRecord::write_ended`] | cleared by an answer | cleared |
/// | [`super::ConnRecord::forget_blocked_write`] | | cleared |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::acceptor) enum Activity {
    /// Nothing.
    Idle,
    /// Data has arrived that the handler has not answered.
    Request,
    /// A write waits for the peer, or waited and was abandoned.
    Write,
    /// Both.
    RequestAndWrite,
}

/// The state of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordState {
    /// What the acceptor wants of the connection; it never moves back.
    pub(super) stop: StopState,
    /// What a graceful stop waits for: a connection with any activity is not ended yet.
    pub(super) activity: Activity,
    /// The handler has finished a message, which the stream has not accounted for yet.
    pub(super) message_done: bool,
    /// Nothing was under way when the acceptor stopped. `false` until then.
    pub(super) was_idle: bool,
}

impl Activity {
    /// The name of a combination.
    pub(super) fn new(request: bool, write: bool) -> Self {
        match (request, write) {
            (false, false) => Self::Idle,
            (true, false) => Self::Request,
            (false, true) => Self::Write,
            (true, true) => Self::RequestAndWrite,
        }
    }

    /// Whether received data waits for its answer.
    pub(in crate::acceptor) fn has_request(self) -> bool {
        matches!(self, Self::Request | Self::RequestAndWrite)
    }

    /// Whether a write waits for the peer, or was abandoned.
    pub(in crate::acceptor) fn has_write(self) -> bool {
        matches!(self, Self::Write | Self::RequestAndWrite)
    }
}

impl RecordState {
    /// Bits 0 and 1 are the stop state, bits 2 and 3 the activity.
    pub(super) fn pack(self) -> u8 {
        self.stop as u8
            | u8::from(self.activity.has_request()) << 2
            | u8::from(self.activity.has_write()) << 3
            | u8::from(self.message_done) << 4
            | u8::from(self.was_idle) << 5
    }

    /// The inverse of `pack`.
    pub(super) fn unpack(bits: u8) -> Self {
        let stop = match bits & 3 {
            0 => StopState::Open,
            1 => StopState::Draining,
            2 => StopState::Ended,
            _ => StopState::Cut,
        };
        let has = |bit: u8| bits & 1 << bit != 0;
        Self { stop, activity: Activity::new(has(2), has(3)), message_done: has(4), was_idle: has(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_packing() {
        use StopState::{Cut, Draining, Ended, Open};
        for stop in [Open, Draining, Ended, Cut] {
            for bits in 0..16 {
                let has = |bit: u8| bits & 1 << bit != 0;
                let activity = Activity::new(has(0), has(1));
                let state = RecordState { stop, activity, message_done: has(2), was_idle: has(3) };
                assert_eq!(RecordState::unpack(state.pack()), state);
            }
        }
    }
}

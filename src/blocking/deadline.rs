//! When a call has waited long enough: for whatever it waits for, and for a link.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::{Builder, Error, WhenDown};

/// How long each call waits for a link, as [`WhenDown::WaitFor`] says.
///
/// The core knows of one operation at a time in each direction. Here, several threads wait in the same one, and each has a
/// time of its own.
pub(super) struct Patience {
    limit: Duration,
    /// For the error's text.
    address: String,
}

impl Patience {
    /// Takes the wait for a link over from the core.
    pub(super) fn take_over<D>(builder: Builder<D>) -> (Builder<D>, Option<Self>) {
        match builder.policy() {
            WhenDown::WaitFor(limit) => {
                let patience = Self { limit, address: builder.address().to_string() };
                (builder.when_down(WhenDown::Wait), Some(patience))
            }
            WhenDown::Wait | WhenDown::Fail => (builder, None),
        }
    }
}

/// The end of a call's time. The time begins with the first wait, so that a call which need not wait does not ask for the
/// time.
pub(super) struct Deadline<'a> {
    limit: Option<Duration>,
    end: Option<Instant>,
    patience: Option<&'a Patience>,
    /// The end of the patience, if it is a link that the call waits for.
    end_of_patience: Option<Instant>,
}

impl<'a> Deadline<'a> {
    pub(super) fn new(limit: Option<Duration>, patience: Option<&'a Patience>) -> Self {
        Self { limit, end: None, patience, end_of_patience: None }
    }

    /// Says, before each wait, whether it is for a link.
    pub(super) fn is_for_a_link(&mut self, ask: impl FnOnce() -> bool) {
        let Some(patience) = self.patience else { return };
        if !ask() {
            self.end_of_patience = None;
        } else if self.end_of_patience.is_none() {
            // A limit beyond all times is none.
            self.end_of_patience = Instant::now().checked_add(patience.limit);
        }
    }

    /// `None`: for ever.
    pub(super) fn time_left(&mut self) -> io::Result<Option<Duration>> {
        if self.limit.is_none() && self.end_of_patience.is_none() {
            return Ok(None);
        }
        let now = Instant::now();
        if let (Some(limit), None) = (self.limit, self.end) {
            self.end = now.checked_add(limit);
        }
        let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        match (self.limit, self.patience) {
            (Some(limit), _) if is_over(self.end) => Err(io::Error::new(io::ErrorKind::WouldBlock, TimeIsUp(limit))),
            (_, Some(patience)) if is_over(self.end_of_patience) => {
                Err(Error::WaitTimeout { address: patience.address.clone(), limit: patience.limit }.into())
            }
            _ => Ok([self.end, self.end_of_patience].into_iter().flatten().min().map(|end| end - now)),
        }
    }
}

/// The text of a timeout.
#[derive(Debug)]
struct TimeIsUp(Duration);

impl fmt::Display for TimeIsUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not done within {:?}", self.0)
    }
}

impl std::error::Error for TimeIsUp {}

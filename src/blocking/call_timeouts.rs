//! The timeouts of one call: its own, and the one for a wait for a link.
//!
//! Next: [`wait`](super::wait), which sleeps no longer than these allow.

use std::io;
use std::time::{Duration, Instant};

use crate::{Builder, Error, WhenDown};

/// How long each call may wait for a link: the duration of [`WhenDown::WaitFor`].
///
/// The core knows one operation at a time in each direction. Here several threads wait in the same direction, and each
/// has a timeout of its own.
pub(super) struct LinkTimeout {
    /// The limit of each wait for a link. It starts over with each outage that the call waits in.
    timeout: Duration,
    /// For the text of the error.
    address: String,
}

impl LinkTimeout {
    /// Takes the timeout out of the settings; the core then waits without one.
    pub(super) fn take_from<D>(builder: Builder<D>) -> (Builder<D>, Option<Self>) {
        match builder.policy() {
            WhenDown::WaitFor(timeout) => {
                let link_timeout = Self { timeout, address: builder.label() };
                (builder.when_down(WhenDown::Wait), Some(link_timeout))
            }
            WhenDown::Wait | WhenDown::Fail => (builder, None),
        }
    }
}

/// The timeouts of one call.
///
/// They begin with the first wait. A call that does not wait never asks for the time.
pub(super) struct CallTimeouts<'a> {
    /// The limit of the whole call. `None`: no limit.
    timeout: Option<Duration>,
    /// Set by the first wait. `None` before that, and if the end lies beyond the range of `Instant`.
    ends_at: Option<Instant>,
    /// The limit of each wait for a link. `None` if the policy sets none.
    link_timeout: Option<&'a LinkTimeout>,
    /// Set while the call waits for a link.
    link_ends_at: Option<Instant>,
}

impl<'a> CallTimeouts<'a> {
    /// The timeouts of a call that has not waited yet. `timeout` limits the whole call.
    pub(super) fn new(timeout: Option<Duration>, link_timeout: Option<&'a LinkTimeout>) -> Self {
        Self { timeout, ends_at: None, link_timeout, link_ends_at: None }
    }

    /// Notes, before each wait, whether it is one for a link. Asks only if there is a timeout for that.
    pub(super) fn set_waiting_for_link(&mut self, is_waiting_for_link: impl FnOnce() -> bool) {
        let Some(link_timeout) = self.link_timeout else { return };
        if !is_waiting_for_link() {
            self.link_ends_at = None;
        } else if self.link_ends_at.is_none() {
            // An end beyond the range of `Instant` never comes.
            self.link_ends_at = Instant::now().checked_add(link_timeout.timeout);
        }
    }

    /// How long the call may still wait; `None` without a limit.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the call's timeout has passed, [`Error::WaitTimeout`] if that for a link has.
    pub(super) fn time_left(&mut self) -> io::Result<Option<Duration>> {
        if self.timeout.is_none() && self.link_ends_at.is_none() {
            return Ok(None);
        }
        let now = Instant::now();
        if let (Some(timeout), None) = (self.timeout, self.ends_at) {
            self.ends_at = now.checked_add(timeout);
        }
        let has_passed = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        match (self.timeout, self.link_timeout) {
            (Some(timeout), _) if has_passed(self.ends_at) => {
                let text = format!("the operation was not done within {timeout:?}");
                Err(io::Error::new(io::ErrorKind::WouldBlock, text))
            }
            (_, Some(link)) if has_passed(self.link_ends_at) => {
                Err(Error::WaitTimeout { address: link.address.clone(), limit: link.timeout }.into())
            }
            _ => Ok([self.ends_at, self.link_ends_at].into_iter().flatten().min().map(|end| end - now)),
        }
    }
}

//! One dial, whatever becomes of it.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::inner::Inner;
use super::make::Make;
use super::stats::count;
use super::{Event, GetError};
use crate::panics::ignore;

/// A dial that is under way. Dropped before its end, it has failed.
pub(super) struct Dialing<'a, T: Send + 'static> {
    inner: &'a Inner<T>,
    maker: &'a mut dyn Make<T>,
    /// The dialer's own code runs.
    is_polled: bool,
    is_over: bool,
}

impl<'a, T: Send + 'static> Dialing<'a, T> {
    pub(super) fn new(inner: &'a Inner<T>, maker: &'a mut dyn Make<T>) -> Self {
        Self { inner, maker, is_polled: false, is_over: false }
    }

    pub(super) async fn run(&mut self, limit: Option<Duration>) -> io::Result<T> {
        let Self { maker, is_polled, .. } = self;
        *is_polled = true;
        let mut dial = maker.make();
        let made = poll_fn(|cx| {
            *is_polled = true;
            let made = dial.as_mut().poll(cx);
            *is_polled = false;
            made
        });
        let outcome = match limit {
            None => made.await,
            Some(limit) => timeout(limit, made).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("the dial took longer than {limit:?}")))
            }),
        };
        // If its end panics, there is a connection to be closed before that goes on.
        *is_polled = true;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(dial))) {
            drop(outcome);
            resume_unwind(panic);
        }
        *is_polled = false;
        outcome
    }

    pub(super) fn succeeded(mut self) {
        self.is_over = true;
    }

    pub(super) fn ended_by_close(mut self) {
        self.tell(io::Error::new(io::ErrorKind::NotConnected, "the pool was closed"));
    }

    pub(super) fn failed(mut self, error: io::Error) -> GetError {
        self.tell(error)
    }

    fn tell(&mut self, error: io::Error) -> GetError {
        self.is_over = true;
        let Inner { shared, name, .. } = self.inner;
        ignore(|| self.maker.failed());
        count(&shared.tally.dials_failed);
        let error = GetError::Dial { name: Arc::clone(name), source: Arc::new(error) };
        shared.tell(|| Event::DialFailed { name: Arc::clone(name), cause: error.clone() });
        error
    }
}

impl<T: Send + 'static> Drop for Dialing<'_, T> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.tell(match self.is_polled {
            true => io::Error::other("the dial panicked"),
            false => io::Error::new(io::ErrorKind::Interrupted, "the dial was given up by its user"),
        });
    }
}

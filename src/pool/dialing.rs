//! One dial, whatever becomes of it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::inner::Inner;
use super::make::Make;
use super::stats::count;
use super::{Event, GetError};
use crate::hooks::panic_message;

/// A dial that is under way. Dropped before its end, it has failed: its user had no more patience.
pub(super) struct Dialing<'a, T: Send + 'static> {
    inner: &'a Inner<T>,
    maker: &'a mut dyn Make<T>,
    is_over: bool,
}

impl<'a, T: Send + 'static> Dialing<'a, T> {
    pub(super) fn new(inner: &'a Inner<T>, maker: &'a mut dyn Make<T>) -> Self {
        Self { inner, maker, is_over: false }
    }

    pub(super) async fn run(&mut self, limit: Option<Duration>) -> io::Result<T> {
        match limit {
            None => self.maker.make().await,
            Some(limit) => timeout(limit, self.maker.make()).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("the dial took longer than {limit:?}")))
            }),
        }
    }

    pub(super) fn succeeded(mut self) {
        self.is_over = true;
    }

    pub(super) fn failed(mut self, error: io::Error) -> GetError {
        self.tell(error)
    }

    fn tell(&mut self, error: io::Error) -> GetError {
        self.is_over = true;
        let Inner { shared, name, .. } = self.inner;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.maker.failed())) {
            panic_message(panic);
        }
        count(&shared.tally.dials_failed);
        let error = GetError::Dial { name: Arc::clone(name), source: Arc::new(error) };
        shared.tell(|| Event::DialFailed { name: Arc::clone(name), cause: error.clone() });
        error
    }
}

impl<T: Send + 'static> Drop for Dialing<'_, T> {
    fn drop(&mut self) {
        if !self.is_over {
            self.tell(io::Error::new(io::ErrorKind::Interrupted, "the dial was given up by its user"));
        }
    }
}

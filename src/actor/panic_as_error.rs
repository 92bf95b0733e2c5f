//! A dial whose panic is an error.
//!
//! The dialer is code of the program, and its panic must not end the actor. Next: `panics.rs`, which catches it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::panics::{catch, ignore};

/// Runs a dial. A panic makes it fail, with the message in the error. A panic in its destructor is ignored.
///
/// `None` only while it is being dropped.
pub(super) struct PanicAsError<F>(Option<Pin<Box<F>>>);

impl<F> PanicAsError<F> {
    /// The dial goes on the heap, so that a panic in its destructor can be caught.
    pub(super) fn new(dial: F) -> Self {
        Self(Some(Box::pin(dial)))
    }
}

impl<S, F: Future<Output = io::Result<S>>> Future for PanicAsError<F> {
    type Output = io::Result<S>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<S>> {
        let Some(dial) = &mut self.0 else { return Poll::Pending };
        // After a panic only the dialer is used again, and its next dial starts with a new call.
        catch(|| dial.as_mut().poll(cx))
            .unwrap_or_else(|message| Poll::Ready(Err(io::Error::other(format!("the dialer panicked: {message}")))))
    }
}

impl<F> Drop for PanicAsError<F> {
    fn drop(&mut self) {
        let dial = self.0.take();
        ignore(|| drop(dial));
    }
}

//! A dial whose panic is an error.
//!
//! The dialer is code of the program, and its panic must not end the actor. Next: `panics.rs`, which catches it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::panics::{catch, ignore};

pin_project! {
    /// Runs a dial. A panic makes it fail, with the message in the error. A panic in its destructor is ignored.
    pub(super) struct PanicAsError<F> {
        // `None` only while it is being dropped: that is how the panic of the destructor can be caught in place.
        #[pin]
        dial: Option<F>,
    }

    impl<F> PinnedDrop for PanicAsError<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut dial = this.project().dial;
            ignore(|| dial.set(None));
        }
    }
}

impl<F> PanicAsError<F> {
    /// Wraps a dial that was not polled yet.
    pub(super) fn new(dial: F) -> Self {
        Self { dial: Some(dial) }
    }
}

impl<S, F: Future<Output = io::Result<S>>> Future for PanicAsError<F> {
    type Output = io::Result<S>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<S>> {
        let Some(dial) = self.project().dial.as_pin_mut() else { return Poll::Pending };
        // After a panic only the dialer is used again, and its next dial starts with a new call.
        catch(|| dial.poll(cx))
            .unwrap_or_else(|message| Poll::Ready(Err(io::Error::other(format!("the dialer panicked: {message}")))))
    }
}

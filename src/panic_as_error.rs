//! A dial whose panic is an error.
//!
//! The dialer is code of the program, and its panic must not end the actor, or the caller of a pool. Next: `panics.rs`, which catches it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::panics::{catch, ignore};

pin_project! {
    /// Runs a dial. A panic makes it fail, with the message in the error. A panic in its destructor is ignored.
    pub(crate) struct PanicAsError<F> {
        // `None` only while it is being dropped: that is how the panic of the destructor can be caught in place.
        #[pin]
        dial: Option<F>,
        // Whose code it is, for the error.
        whose: &'static str,
    }

    impl<F> PinnedDrop for PanicAsError<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut dial = this.project().dial;
            ignore(|| dial.set(None));
        }
    }
}

/// Runs a dial, and drops it before its stream is returned. If that panics, the stream is dropped: as a temporary value of an
/// `await`, the dial would leak it.
pub(crate) async fn complete<F: Future>(dial: F) -> F::Output {
    let mut dial = Box::pin(dial);
    let output = dial.as_mut().await;
    drop(dial);
    output
}

impl<F> PanicAsError<F> {
    /// Wraps a dial that was not polled yet.
    pub(crate) fn new(dial: F) -> Self {
        Self::of("the dialer", dial)
    }

    /// Wraps another future of the program's code that was not polled yet.
    pub(crate) fn of(whose: &'static str, future: F) -> Self {
        Self { dial: Some(future), whose }
    }
}

impl<S, F: Future<Output = io::Result<S>>> Future for PanicAsError<F> {
    type Output = io::Result<S>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<S>> {
        let this = self.project();
        let Some(dial) = this.dial.as_pin_mut() else { return Poll::Pending };
        // After a panic only the dialer is used again, and its next dial starts with a new call.
        catch(|| dial.poll(cx))
            .unwrap_or_else(|message| Poll::Ready(Err(io::Error::other(format!("{} panicked: {message}", this.whose)))))
    }
}

//! A panic of the program's dialer is a failed dial.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::panics::{catch, ignore};

pin_project! {
    /// Runs a dial; if it panics, it ends with an error. It may also panic when it is dropped.
    pub(super) struct CatchUnwind<F> {
        #[pin]
        dial: Option<F>,
    }

    impl<F> PinnedDrop for CatchUnwind<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut dial = this.project().dial;
            ignore(|| dial.set(None));
        }
    }
}

impl<F> CatchUnwind<F> {
    pub(super) fn new(dial: F) -> Self {
        Self { dial: Some(dial) }
    }
}

impl<S, F: Future<Output = io::Result<S>>> Future for CatchUnwind<F> {
    type Output = io::Result<S>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<S>> {
        let Some(dial) = self.project().dial.as_pin_mut() else { return Poll::Pending };
        // Nothing of a dial is used after its panic but the dialer, whose next dial starts with a new call.
        catch(|| dial.poll(cx))
            .unwrap_or_else(|message| Poll::Ready(Err(io::Error::other(format!("the dialer panicked: {message}")))))
    }
}

//! How connections are made.

use std::future::Future;
use std::io;
use std::pin::Pin;

use crate::Dial;

/// Opens what a resource lends.
pub(super) trait Make<T>: Send {
    fn make(&mut self) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send + '_>>;

    /// The last attempt has failed, or has run out of time.
    fn failed(&mut self) {}
}

/// By a dialer.
pub(super) struct Dialed<D>(pub(super) D);

impl<D: Dial> Make<D::Stream> for Dialed<D> {
    fn make(&mut self) -> Pin<Box<dyn Future<Output = io::Result<D::Stream>> + Send + '_>> {
        Box::pin(self.0.dial())
    }

    fn failed(&mut self) {
        self.0.dial_failed();
    }
}

/// By a dialer that belongs to somebody else.
pub(super) struct DialedBy<'a, D>(pub(super) &'a mut D);

impl<D: Dial> Make<D::Stream> for DialedBy<'_, D> {
    fn make(&mut self) -> Pin<Box<dyn Future<Output = io::Result<D::Stream>> + Send + '_>> {
        Box::pin(self.0.dial())
    }

    fn failed(&mut self) {
        self.0.dial_failed();
    }
}

/// By a closure.
pub(super) struct Made<F>(pub(super) F);

impl<F, Fut, T> Make<T> for Made<F>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = io::Result<T>> + Send + 'static,
{
    fn make(&mut self) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send + '_>> {
        Box::pin((self.0)())
    }
}

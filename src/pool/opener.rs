//! What opens the connections of a resource: a dialer or a closure, behind one trait.
//!
//! Next: [`dial`](super::dial_attempt::dial), which calls it.

use std::future::Future;
use std::io;
use std::pin::Pin;

use crate::dial::name_address;
use crate::panics::{catch, ignore};
use crate::{Dial, Error};

/// Opens what a resource lends.
pub(super) trait Open<T>: Send {
    /// Begins to open one connection.
    fn open(&mut self) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send + '_>>;

    /// Hears that the last attempt has failed or was dropped, as [`Dial::dial_failed`] does. Returns the error, with the
    /// address if there are several.
    fn failed(&mut self, error: io::Error) -> io::Error {
        error
    }

    /// How many addresses there are to dial, one after the other.
    fn addresses(&self) -> usize {
        1
    }

    /// Takes a warning about the last attempt, as [`Dial::take_warning`] does.
    fn take_warning(&mut self) -> Option<Error> {
        None
    }
}

/// Opens connections with the resource's own dialer.
pub(super) struct ByDialer<D>(pub(super) D);

impl<D: Dial> Open<D::Stream> for ByDialer<D> {
    fn open(&mut self) -> Pin<Box<dyn Future<Output = io::Result<D::Stream>> + Send + '_>> {
        Box::pin(self.0.dial())
    }

    fn failed(&mut self, error: io::Error) -> io::Error {
        report_failure(&mut self.0, error)
    }

    fn addresses(&self) -> usize {
        catch(|| self.0.addresses().len()).unwrap_or(1)
    }

    fn take_warning(&mut self) -> Option<Error> {
        self.0.take_warning()
    }
}

/// Reports a failed attempt to its dialer, and names the address in the error.
fn report_failure<D: Dial>(dialer: &mut D, error: io::Error) -> io::Error {
    let error = name_address(dialer, error);
    // A panic of the program's dialer changes nothing: the attempt has failed already.
    ignore(|| dialer.dial_failed());
    error
}

/// Opens one connection with a dialer that belongs to the caller.
pub(super) struct ByBorrowedDialer<'a, D>(pub(super) &'a mut D);

impl<D: Dial> Open<D::Stream> for ByBorrowedDialer<'_, D> {
    fn open(&mut self) -> Pin<Box<dyn Future<Output = io::Result<D::Stream>> + Send + '_>> {
        Box::pin(self.0.dial())
    }

    fn failed(&mut self, error: io::Error) -> io::Error {
        report_failure(self.0, error)
    }

    fn take_warning(&mut self) -> Option<Error> {
        self.0.take_warning()
    }
}

/// Opens anything with a closure.
pub(super) struct ByFn<F>(pub(super) F);

impl<F, Fut, T> Open<T> for ByFn<F>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = io::Result<T>> + Send + 'static,
{
    fn open(&mut self) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send + '_>> {
        Box::pin((self.0)())
    }
}

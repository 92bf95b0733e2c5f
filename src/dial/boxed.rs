//! A dialer of any type behind one type.
//!
//! [`Dial`] cannot be a trait object: each dialer has a future and a stream of its own type. [`BoxedDialer`] boxes
//! both, for code that holds dialers of different types in one place. Next: [`Dial`], the trait that it implements.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Dial;
use crate::{Address, Error, SocketOptions};

/// What a dialer's stream can do, as a trait object.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A stream of any type.
pub(crate) type BoxedStream = Box<dyn Stream>;

/// A dialer of any type. Its streams are [`BoxedStream`]s.
///
/// The dialer's [`is_closed`](Dial::is_closed) and [`closing_error`](Dial::closing_error) are lost: they belong to a
/// type of stream that is no longer known.
pub(crate) struct BoxedDialer(Box<dyn DynDial>);

impl BoxedDialer {
    /// Boxes a dialer.
    pub(crate) fn new(dialer: impl Dial) -> Self {
        Self(Box::new(dialer))
    }
}

impl Dial for BoxedDialer {
    type Stream = BoxedStream;

    fn dial(&mut self) -> impl Future<Output = io::Result<BoxedStream>> + Send {
        self.0.dial_boxed()
    }

    fn check(&self) -> Result<(), Error> {
        self.0.check_boxed()
    }

    fn take_socket_options(&mut self, options: &SocketOptions) -> bool {
        self.0.take_socket_options_boxed(options)
    }

    fn addresses(&self) -> &[Address] {
        self.0.addresses_boxed()
    }

    fn dialed_address(&self) -> Option<&Address> {
        self.0.dialed_address_boxed()
    }

    fn unfinished_step(&self) -> Option<String> {
        self.0.unfinished_step_boxed()
    }

    fn dial_failed(&mut self) {
        self.0.dial_failed_boxed();
    }

    fn take_warning(&mut self) -> Option<Error> {
        self.0.take_warning_boxed()
    }
}

/// The methods of [`Dial`] in an object-safe form. Their names differ, so that no call is ambiguous.
trait DynDial: Send {
    /// [`Dial::dial`], with its future and its stream boxed.
    fn dial_boxed(&mut self) -> Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send + '_>>;
    /// [`Dial::check`], for the settings of the boxed dialer.
    fn check_boxed(&self) -> Result<(), Error>;
    /// [`Dial::take_socket_options`]. Returns whether the dialer takes them.
    fn take_socket_options_boxed(&mut self, options: &SocketOptions) -> bool;
    /// [`Dial::addresses`], which may be none.
    fn addresses_boxed(&self) -> &[Address];
    /// [`Dial::dialed_address`], which may be `None`.
    fn dialed_address_boxed(&self) -> Option<&Address>;
    /// [`Dial::unfinished_step`], which may be `None`.
    fn unfinished_step_boxed(&self) -> Option<String>;
    /// [`Dial::dial_failed`], which may move on to another address.
    fn dial_failed_boxed(&mut self);
    /// [`Dial::take_warning`], about the last dial.
    fn take_warning_boxed(&mut self) -> Option<Error>;
}

impl<D: Dial> DynDial for D {
    fn dial_boxed(&mut self) -> Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send + '_>> {
        Box::pin(async move { Ok(Box::new(self.dial().await?) as BoxedStream) })
    }

    fn check_boxed(&self) -> Result<(), Error> {
        self.check()
    }

    fn take_socket_options_boxed(&mut self, options: &SocketOptions) -> bool {
        self.take_socket_options(options)
    }

    fn addresses_boxed(&self) -> &[Address] {
        self.addresses()
    }

    fn dialed_address_boxed(&self) -> Option<&Address> {
        self.dialed_address()
    }

    fn unfinished_step_boxed(&self) -> Option<String> {
        self.unfinished_step()
    }

    fn dial_failed_boxed(&mut self) {
        self.dial_failed();
    }

    fn take_warning_boxed(&mut self) -> Option<Error> {
        self.take_warning()
    }
}

//! Dialers of any kind behind one type.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Dial;

/// What a connection is made over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) type BoxStream = Box<dyn Stream>;

/// A dialer of the user's, whatever it makes.
pub(super) struct AnyDialer(Box<dyn DynDial>);

trait DynDial: Send {
    fn dial(&mut self) -> Pin<Box<dyn Future<Output = io::Result<BoxStream>> + Send + '_>>;
    fn check(&self) -> Result<(), crate::Error>;
    fn dial_failed(&mut self);
}

impl<D: Dial> DynDial for D {
    fn dial(&mut self) -> Pin<Box<dyn Future<Output = io::Result<BoxStream>> + Send + '_>> {
        Box::pin(async move { Ok(Box::new(Dial::dial(self).await?) as BoxStream) })
    }

    fn check(&self) -> Result<(), crate::Error> {
        Dial::check(self)
    }

    fn dial_failed(&mut self) {
        Dial::dial_failed(self);
    }
}

impl AnyDialer {
    pub(super) fn new(dialer: impl Dial) -> Self {
        Self(Box::new(dialer))
    }

    pub(super) async fn dial(&mut self) -> io::Result<BoxStream> {
        self.0.dial().await
    }

    pub(super) fn check(&self) -> Result<(), crate::Error> {
        self.0.check()
    }

    pub(super) fn dial_failed(&mut self) {
        self.0.dial_failed();
    }
}

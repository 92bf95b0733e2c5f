//! The two methods of the core's [`Builder`] that make a blocking connection.
//!
//! Next: [`background`](super::background), on whose runtime both build the connection.

use std::io;
use std::pin::pin;

use super::Conn;
use super::background::{BackgroundRef, check_may_wait};
use super::call_timeouts::LinkTimeout;
use super::hook_thread::on_hook_thread;
use super::wait::block_on;
use crate::{Builder, Dial};

#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
impl<D: Dial> Builder<D> {
    /// Makes a connection for a program without a runtime, as [`build`](Builder::build) does for an async one.
    ///
    /// It checks the settings and returns at once. The background thread dials until it succeeds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let conn = perconn::Conn::builder("metrics.example:4000").retry_min(Duration::from_millis(200)).build_blocking()?;
    /// # drop(conn);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig) if a setting cannot work. The operating system's error if
    /// the background thread cannot be started.
    pub fn build_blocking(self) -> io::Result<Conn<D::Stream>> {
        let background = BackgroundRef::acquire()?;
        let (builder, link_timeout) = LinkTimeout::take_from(self);
        let conn = {
            let _context = background.runtime().enter();
            builder.map_hooks(on_hook_thread).build()?
        };
        Ok(Conn::new(conn, link_timeout, background))
    }

    /// Makes a connection for a program without a runtime and waits for the outcome of the first dial, as
    /// [`connect`](Builder::connect) does.
    ///
    /// ```no_run
    /// let conn = perconn::Conn::builder("metrics.example:4000").nodelay(true).connect_blocking()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`build_blocking`](Builder::build_blocking). [`Error::DialFailure`](crate::Error::DialFailure) if the
    /// first dial fails: then there is no second. [`Deadlock`](io::ErrorKind::Deadlock) in a dialer of a blocking
    /// connection.
    pub fn connect_blocking(self) -> io::Result<Conn<D::Stream>> {
        check_may_wait()?;
        let background = BackgroundRef::acquire()?;
        let (builder, link_timeout) = LinkTimeout::take_from(self);
        let conn = {
            let _context = background.runtime().enter();
            block_on(pin!(builder.map_hooks(on_hook_thread).connect()), None)??
        };
        Ok(Conn::new(conn, link_timeout, background))
    }
}

//! Blocking connections from the settings of the core.

use std::io;
use std::pin::pin;

use super::Conn;
use super::background::User;
use super::background::check_that_waiting_is_safe;
use super::deadline::Patience;
use super::news::block_on;
use crate::{Builder, Dial};

#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
impl<D: Dial> Builder<D> {
    /// Like [`build`](Builder::build), for a program without a runtime: checks the settings and returns at once; the
    /// background thread dials until it succeeds.
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
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig) if a setting cannot work; the operating system's error if the
    /// background thread cannot be started.
    pub fn build_blocking(self) -> io::Result<Conn<D::Stream>> {
        let user = User::new()?;
        let (builder, patience) = Patience::take_over(self);
        let conn = {
            let _guard = user.runtime().enter();
            builder.build()?
        };
        Ok(Conn::new(conn, patience, user))
    }

    /// Like [`connect`](Builder::connect), for a program without a runtime: waits for the outcome of the first dial.
    ///
    /// ```no_run
    /// let conn = perconn::Conn::builder("metrics.example:4000").nodelay(true).connect_blocking()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`build_blocking`](Builder::build_blocking), and [`Error::DialFailure`](crate::Error::DialFailure) if the
    /// first dial fails: then there is no second. [`Deadlock`](io::ErrorKind::Deadlock) in a hook or a dialer of a blocking
    /// connection.
    pub fn connect_blocking(self) -> io::Result<Conn<D::Stream>> {
        check_that_waiting_is_safe()?;
        let user = User::new()?;
        let (builder, patience) = Patience::take_over(self);
        let conn = {
            let _guard = user.runtime().enter();
            block_on(pin!(builder.connect()), None)??
        };
        Ok(Conn::new(conn, patience, user))
    }
}

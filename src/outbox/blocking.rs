//! An outbox for programs without an async runtime, and for the backends of logging libraries.
//!
//! ```
//! use std::time::Duration;
//! use perconn::Conn;
//! use perconn::outbox::Outbox;
//!
//! # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = server.local_addr()?;
//! # std::thread::spawn(move || std::io::copy(&mut server.accept()?.0, &mut std::io::sink()));
//! let outbox = Outbox::builder(Conn::builder(address)).start_blocking()?;
//! outbox.send("a line\n")?;
//! let tally = outbox.close(Duration::from_secs(5))?; // without it, the end of `main` takes what waits with it
//! assert_eq!(tally.written, 1);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The connection and the queue are served by the background thread of [`perconn::blocking`](crate::blocking).
//!
//! # Beneath a logging library
//!
//! Give a backend of `log` or `tracing` a [`try_send`](Outbox::try_send) and one of the policies
//! [`DropOldest`](super::WhenFull::DropOldest) and [`DropNewest`](super::WhenFull::DropNewest). Then a line costs a short lock,
//! never waits for the network, and is counted if it is lost. This crate's own lines (target `perconn`) may go the same way: no
//! lock is held while they are logged, and there are at most a few for each dial and each second. `send` does not deadlock
//! either, but it waits in an outage, and so does every thread that logs.
//!
//! Next: the [parent module](super), which says what becomes of a message.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Fate, OutboxBuilder, SendError, Tally, TrySendError};
use crate::blocking::{BackgroundRef, block_on, hook_on_thread, on_hook_thread};
use crate::{Dial, Error, Status};

/// The blocking form of [`perconn::outbox::Outbox`](super::Outbox), with the same settings and promises; made by
/// [`OutboxBuilder::start_blocking`].
///
/// Cheap to clone, for as many threads as you like. When the last clone is dropped, the outbox goes on in the background for at
/// most [`close_timeout`](OutboxBuilder::close_timeout), unless the process ends before.
///
/// It cannot be used in a fork of the process: its background thread is not there.
#[derive(Clone)]
pub struct Outbox {
    /// Dropped before the reference to the thread that serves it.
    outbox: super::Outbox,
    /// Runs until the outbox has ended.
    background: Arc<BackgroundRef>,
}

#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
impl<D: Dial> OutboxBuilder<D> {
    /// Checks the settings and returns at once, as [`start`](OutboxBuilder::start) does, for a program without a runtime.
    ///
    /// The background thread dials and sends. Hooks run on a thread of their own, and may use the outbox.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a setting is invalid. The operating system's error if the background thread cannot be
    /// started.
    pub fn start_blocking(self) -> io::Result<Outbox> {
        let mut background = BackgroundRef::acquire()?;
        let outbox = {
            let _context = background.runtime().enter();
            self.map_hooks(on_hook_thread, hook_on_thread).start()?
        };
        background.set_last_future(outbox.ended());
        Ok(Outbox { outbox, background: Arc::new(background) })
    }
}

impl Outbox {
    /// Accepts a message and returns its number; see [`perconn::outbox::Outbox::send`](super::Outbox::send).
    ///
    /// If there is no room, it blocks until there is, unless [`when_full`](OutboxBuilder::when_full) says otherwise.
    ///
    /// # Errors
    ///
    /// A [`SendError`] is in the error. [`Deadlock`](io::ErrorKind::Deadlock) if it would wait in a
    /// dialer of a blocking connection; [`Unsupported`](io::ErrorKind::Unsupported) in a fork.
    pub fn send(&self, message: impl AsRef<[u8]>) -> io::Result<u64> {
        self.background.check_process()?;
        Ok(block_on(pin!(self.outbox.send(message)), None)??)
    }

    /// Accepts a message and returns its number, without waiting; see
    /// [`perconn::outbox::Outbox::try_send`](super::Outbox::try_send).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`TrySendError::Full`] where `send` would wait. In a fork, the outbox has ended.
    pub fn try_send(&self, message: impl AsRef<[u8]>) -> Result<u64, TrySendError> {
        if self.background.is_in_fork() {
            let cause = Arc::new(Error::RuntimeShutdown);
            return Err(SendError::Ended { cause }.into());
        }
        self.outbox.try_send(message)
    }

    /// Sends a message and blocks until it has its fate; see
    /// [`perconn::outbox::Outbox::send_and_wait`](super::Outbox::send_and_wait).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_and_wait(&self, message: impl AsRef<[u8]>) -> io::Result<Fate> {
        self.background.check_process()?;
        Ok(block_on(pin!(self.outbox.send_and_wait(message)), None)??)
    }

    /// Blocks until each message that was accepted before has its fate, or `limit` has passed.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the time is over, as with the timeouts of a blocking connection. Otherwise as [`send`](Self::send).
    pub fn flush(&self, limit: Duration) -> io::Result<()> {
        self.background.check_process()?;
        block_on(pin!(self.outbox.flush()), Some(limit))
    }

    /// Closes the outbox for all clones, and returns the final tally; see
    /// [`perconn::outbox::Outbox::close`](super::Outbox::close).
    ///
    /// # Errors
    ///
    /// [`Deadlock`](io::ErrorKind::Deadlock) in a dialer of a blocking connection; [`Unsupported`](io::ErrorKind::Unsupported)
    /// in a fork.
    pub fn close(&self, limit: Duration) -> io::Result<Tally> {
        self.background.check_process()?;
        block_on(pin!(self.outbox.close(limit)), None)
    }

    /// How many messages were accepted, and what has become of them, at this moment.
    pub fn tally(&self) -> Tally {
        self.outbox.tally()
    }

    /// The number of the oldest message that has no fate yet; see
    /// [`perconn::outbox::Outbox::oldest_waiting`](super::Outbox::oldest_waiting).
    pub fn oldest_waiting(&self) -> Option<u64> {
        self.outbox.oldest_waiting()
    }

    /// The status of the connection at this moment.
    pub fn status(&self) -> Status {
        self.outbox.status()
    }

    /// The figures of the connection.
    pub fn conn_stats(&self) -> crate::ConnStats {
        self.outbox.conn_stats()
    }

    /// Why the outbox takes no messages: it has ended or is being closed. `None` while it takes them.
    pub fn end_cause(&self) -> Option<Arc<Error>> {
        self.outbox.end_cause()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.outbox, f)
    }
}

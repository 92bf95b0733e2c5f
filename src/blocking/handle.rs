//! The methods of a handle besides reading and writing.
//!
//! Next: [`handle_state`](super::handle_state), which a clone copies.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::Conn;
use super::handle_state::HandleState;
use super::wait::block_on;
use crate::Status;

impl<S> Conn<S> {
    /// Makes another handle on the same connection, with the same timeouts.
    ///
    /// The clone has reported the breaks that this handle has reported. It does not continue a partial write of this
    /// handle, even if this handle has: its first write is a new one. The connection closes when the last handle is
    /// dropped.
    ///
    /// ```
    /// use std::io::{BufRead, BufReader, Write};
    /// use perconn::Error;
    ///
    /// # use std::io::Read;
    /// # let (sender, seen) = std::sync::mpsc::channel();
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = server.local_addr()?;
    /// # let server = std::thread::spawn(move || {
    /// #     let mut peer = server.accept()?.0;
    /// #     peer.read_exact(&mut [0; 6])?;
    /// #     peer.write_all(b"one\nhalf of a li")?;
    /// #     drop(peer);
    /// #     let mut peer = server.accept()?.0;
    /// #     peer.write_all(b"two\n").map(|()| peer)
    /// # });
    /// let mut conn = perconn::blocking::Conn::connect(address)?;
    /// let mut reader = BufReader::new(conn.try_clone()?);
    /// let printer = std::thread::spawn(move || {
    ///     let mut line = String::new();
    ///     loop {
    ///         // A break drops a half-received line.
    ///         line.clear();
    ///         match reader.read_line(&mut line) {
    ///             Ok(_) if line.ends_with('\n') => {
    ///                 print!("received {line}");
    /// #               sender.send(line.clone()).unwrap();
    ///             }
    ///             Ok(_) => println!("the peer closed"),
    ///             Err(error) if Error::of(&error).is_some_and(Error::is_final) => break,
    ///             Err(error) => println!("{error}"),
    ///         }
    ///     }
    /// });
    /// conn.write_all(b"hello\n")?;
    /// # let _peer = server.join().unwrap()?;
    /// # assert_eq!([seen.recv().unwrap(), seen.recv().unwrap()], ["one\n", "two\n"]);
    /// // Ends the read that waits in the other thread.
    /// conn.close();
    /// printer.join().unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None. It returns a `Result` as [`std::net::TcpStream::try_clone`] does.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::clone(&self.shared),
            state: HandleState::new(self.state.last_reported()),
            read_timeout: self.read_timeout.clone(),
            write_timeout: self.write_timeout.clone(),
        })
    }

    /// Sets how long a read of this handle may wait for bytes or for a link.
    ///
    /// The default is `None`: no limit. See [timeouts](Conn#timeouts).
    ///
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use std::time::Duration;
    ///
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = server.local_addr()?;
    /// let mut conn = perconn::blocking::Conn::connect(address)?;
    /// conn.set_read_timeout(Some(Duration::from_millis(10)))?;
    /// // The server sends nothing.
    /// assert_eq!(conn.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a limit of zero.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set("read", limit)
    }

    /// Sets how long a write, flush or shutdown of this handle may wait: for room, for another thread's write, or for a
    /// link.
    ///
    /// The default is `None`: no limit. See [timeouts](Conn#timeouts).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a limit of zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set("write", limit)
    }

    /// The limit set by [`set_read_timeout`](Conn::set_read_timeout).
    ///
    /// # Errors
    ///
    /// None. It returns a `Result` as std's does.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.read_timeout.get())
    }

    /// The limit set by [`set_write_timeout`](Conn::set_write_timeout).
    ///
    /// # Errors
    ///
    /// None. It returns a `Result` as std's does.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.write_timeout.get())
    }

    /// The number of the newest link: 1 for the first, 0 before there is one.
    pub fn generation(&self) -> u64 {
        self.shared.reader.lock().generation()
    }

    /// The number of the newest link whose break this handle has reported, 0 before the first.
    ///
    /// After a read that returned `Ok(0)`, which carries no error to say it, this is the link that the peer closed.
    pub fn last_reported(&self) -> u64 {
        self.state.last_reported()
    }

    /// Whether a link is up, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        self.shared.reader.lock().is_connected()
    }

    /// The status of the connection at this moment.
    pub fn status(&self) -> Status {
        self.shared.reader.lock().status()
    }

    /// Waits until a link is up, for `limit` at most; `None` means no limit.
    ///
    /// It reports no break: one that this handle has not reported yet is reported by its next operation.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no link within `limit`.
    /// [`Deadlock`](io::ErrorKind::Deadlock) on the [background thread](Conn#the-background-thread).
    /// [`Error::ClosedConnection`](crate::Error::ClosedConnection) or [`Error::GaveUp`](crate::Error::GaveUp) if
    /// there will be no link.
    pub fn connected(&self, limit: impl Into<Option<Duration>>) -> io::Result<()> {
        let connected = self.shared.reader.lock().connected();
        Ok(block_on(pin!(connected), limit.into())??)
    }

    /// Breaks the link on purpose, or dials at once during an outage; see
    /// [`perconn::Conn::reconnect`](crate::Conn::reconnect).
    pub fn reconnect(&self) {
        self.shared.reader.lock().reconnect();
    }

    /// Closes the connection for all its handles, at any moment, from any thread.
    ///
    /// It shuts the socket down at once. Operations that wait in other threads, and all later ones, fail with
    /// [`Error::ClosedConnection`](crate::Error::ClosedConnection). Bytes that the kernel has accepted are still
    /// delivered, unless received bytes are left unread.
    ///
    /// When it returns, nothing dials any more. In a dialer of a blocking connection it closes as well, but does not
    /// wait for that. The hooks may still run afterwards, for what happened before and for
    /// [`Event::Closed`](crate::Event::Closed).
    pub fn close(&self) {
        let close = self.shared.reader.lock().close();
        // The first poll closes. The background thread gets an error instead of the wait that follows.
        let _ = block_on(pin!(close), None);
    }
}

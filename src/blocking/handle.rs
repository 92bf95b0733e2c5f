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
use crate::{ConnStats, Status};

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

    /// The figures of the connection since it was built; see [`perconn::Conn::stats`](crate::Conn::stats).
    pub fn stats(&self) -> ConnStats {
        self.shared.reader.lock().stats()
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
        self.shared.background.check_process()?;
        let connected = self.shared.reader.lock().connected();
        Ok(block_on(pin!(connected), limit.into())??)
    }

    /// Gives the link up: this handle reads, writes and reports nothing more of it. See
    /// [`perconn::Conn::abandon`](crate::Conn::abandon).
    ///
    /// Call it after a read or write that has timed out in the middle of a conversation. The other handles report the
    /// break.
    ///
    /// ```
    /// use std::io::{ErrorKind, Read, Write};
    /// use std::time::Duration;
    ///
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = server.local_addr()?;
    /// # std::thread::spawn(move || {
    /// #     let _never_answers = server.accept()?;
    /// #     let (stream, _) = server.accept()?;
    /// #     std::io::copy(&mut &stream, &mut &stream)
    /// # });
    /// let mut conn = perconn::blocking::Conn::builder(address).retry_min(Duration::from_millis(10)).build_blocking()?;
    /// conn.set_read_timeout(Some(Duration::from_millis(100)))?;
    /// conn.set_write_timeout(Some(Duration::from_millis(100)))?;
    /// let mut answer = [0; 4];
    /// loop {
    ///     conn.connected(None)?; // fails when the connection has ended
    ///     match conn.write_all(b"ping").and_then(|()| conn.read_exact(&mut answer)) {
    ///         Ok(()) => break,
    ///         // Late, or broken: what arrives on this link now is not the answer to the next request.
    ///         Err(_) => conn.abandon(),
    ///     }
    /// }
    /// assert_eq!((&answer, conn.generation()), (b"ping", 2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn abandon(&mut self) {
        if self.shared.background.is_in_fork() {
            return;
        }
        // The link that some handle uses: this one may. A link that came up meanwhile and that none uses is kept.
        let read = self.shared.reader.lock().used();
        let used = read.max(self.shared.writer.lock().half.used());
        let newest_broken = self.shared.reader.lock().conn_state().abandon(used);
        self.state.set_reported(newest_broken);
        self.state.set_partial_write(None);
    }

    /// Breaks the link of this [`generation`](Conn::generation) on purpose, for all handles; see
    /// [`perconn::Conn::break_link`](crate::Conn::break_link).
    ///
    /// Each handle, this one included, reports the break. Does nothing if that link is gone.
    pub fn break_link(&self, generation: u64) {
        if self.shared.background.is_in_fork() {
            return;
        }
        self.shared.reader.lock().break_link(generation);
    }

    /// Cuts the delay before the next dial short, to `retry_min` after the end of the last dial; see
    /// [`perconn::Conn::dial_now`](crate::Conn::dial_now).
    pub fn dial_now(&self) {
        self.shared.reader.lock().dial_now();
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
        if self.shared.background.is_in_fork() {
            return;
        }
        let close = self.shared.reader.lock().close();
        // The first poll closes. The background thread gets an error instead of the wait that follows.
        let _ = block_on(pin!(close), None);
    }
}

//! What a handle does besides reading and writing.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Conn;
use super::news::block_on;
use crate::Status;

impl<S> Conn<S> {
    /// Another handle on the same connection, which has been told of what this one has, and has the same timeouts.
    ///
    /// The connection closes when the last handle is dropped. The clone starts at the beginning of a message: if this handle
    /// has the rest of a write to send, the clone knows nothing of it.
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
    ///         // At a break, what had come of a line is dropped.
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
    /// // What still waits in the other thread ends.
    /// conn.close();
    /// printer.join().unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None; it is a `Result` as [`std::net::TcpStream::try_clone`] is.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::clone(&self.shared),
            last_reported: AtomicU64::new(self.last_reported.load(Ordering::SeqCst)),
            rest: AtomicU64::new(0),
            read_timeout: self.read_timeout.clone(),
            write_timeout: self.write_timeout.clone(),
        })
    }

    /// How long a read of this handle may wait: for bytes, and for a link. `None`, the default: for ever.
    ///
    /// See [timeouts](Conn#timeouts).
    ///
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use std::time::Duration;
    ///
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = server.local_addr()?;
    /// let mut conn = perconn::blocking::Conn::connect(address)?;
    /// conn.set_read_timeout(Some(Duration::from_millis(10)))?;
    /// // The server says nothing.
    /// assert_eq!(conn.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a time of zero.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set("read", limit)
    }

    /// How long a write, flush or shutdown of this handle may wait: for room, for its turn, and for a link. `None`, the
    /// default: for ever. See [timeouts](Conn#timeouts).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a time of zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set("write", limit)
    }

    /// The time set by [`set_read_timeout`](Conn::set_read_timeout).
    ///
    /// # Errors
    ///
    /// None; it is a `Result` as std's is.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.read_timeout.get())
    }

    /// The time set by [`set_write_timeout`](Conn::set_write_timeout).
    ///
    /// # Errors
    ///
    /// None; it is a `Result` as std's is.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.write_timeout.get())
    }

    /// The number of the newest link: 1 for the first, 0 before there is one.
    pub fn generation(&self) -> u64 {
        self.shared.reading.half().generation()
    }

    /// Whether a link is up, as far as this machine knows.
    pub fn is_connected(&self) -> bool {
        self.shared.reading.half().is_connected()
    }

    /// The status of the connection at this moment.
    pub fn status(&self) -> Status {
        self.shared.reading.half().status()
    }

    /// Waits until a link is up, for `limit` at most; with `None`, for ever.
    ///
    /// A break that has not been told yet is still told by the next operation.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the time is up, [`Deadlock`](io::ErrorKind::Deadlock) on the
    /// [background thread](Conn#the-background-thread). [`Error::ClosedConnection`](crate::Error::ClosedConnection) or
    /// [`Error::GaveUp`](crate::Error::GaveUp) if there will be no link.
    pub fn connected(&self, limit: impl Into<Option<Duration>>) -> io::Result<()> {
        let connected = self.shared.reading.half().connected();
        Ok(block_on(pin!(connected), limit.into())??)
    }

    /// Breaks the link on purpose, or, during an outage, dials at once; see
    /// [`perconn::Conn::reconnect`](crate::Conn::reconnect).
    pub fn reconnect(&self) {
        self.shared.reading.half().reconnect();
    }

    /// Closes the connection for all its handles, at any moment, from any thread.
    ///
    /// The socket is shut down at once, what waits in other threads ends with
    /// [`Error::ClosedConnection`](crate::Error::ClosedConnection), and so does every later operation. Bytes that the kernel
    /// had accepted are still delivered, unless received bytes were left unread. When this returns, nothing dials any more.
    /// (Called by a hook of a blocking connection, it does not wait for that.)
    pub fn close(&self) {
        let closing = self.shared.reading.half().close();
        // Closed by the first look at it. On the background thread that is all, and what follows cannot be waited for.
        let _ = block_on(pin!(closing), None);
    }
}

//! The hooks of a resource, which are set when it is made.
//!
//! Next: [`Lifecycle`], which keeps and calls them.

use std::future::Future;
use std::io;

use super::Resource;
use super::lifecycle::{Lifecycle, boxed};

/// What the program does with the connections of a resource. Each of these methods takes the resource as it was made, and
/// returns it; a second call of the same one replaces the first.
impl<T: Send + 'static> Resource<T> {
    /// Sets a check: a connection for which it returns `false` is not lent again, but closed and replaced.
    ///
    /// It is for what the pool cannot check by itself: the values of [`Pool::resource_fn`](super::Pool::resource_fn), such
    /// as a client with a socket inside. The pool calls it each time before it lends a connection that was used or idle, and
    /// [in the background](super::PoolBuilder::check_idle_every). It is called in addition to the pool's own checks. It
    /// must not block. If it panics, the connection counts as dead.
    ///
    /// # Panics
    ///
    /// If the resource was cloned or used before.
    ///
    /// # Examples
    ///
    /// ```
    /// use perconn::pool::Pool;
    /// use tokio::io::{BufReader, BufWriter};
    /// use tokio::net::{TcpStream, tcp::{OwnedReadHalf, OwnedWriteHalf}};
    ///
    /// struct Client {
    ///     reader: BufReader<OwnedReadHalf>,
    ///     writer: BufWriter<OwnedWriteHalf>,
    /// }
    ///
    /// impl Client {
    ///     /// Nothing has arrived, neither bytes nor the end of the stream.
    ///     fn is_quiet(&self) -> bool {
    ///         let read = self.reader.get_ref().try_read(&mut [0]);
    ///         self.reader.buffer().is_empty() && read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let address = server.local_addr()?;
    /// let open = move || async move {
    ///     let (reader, writer) = TcpStream::connect(address).await?.into_split();
    ///     Ok(Client { reader: BufReader::new(reader), writer: BufWriter::new(writer) })
    /// };
    /// let client = Pool::new(64)?.resource_fn("client", open).check(|client| client.is_quiet());
    /// drop(client.get().await?);
    /// drop(server.accept().await?); // the server closes the connection
    /// # tokio::task::yield_now().await;
    /// # tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    /// assert!(!client.get().await?.is_reused());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn check(mut self, check: impl Fn(&mut T) -> bool + Send + Sync + 'static) -> Self {
        self.lifecycle().check = Some(Box::new(check));
        self
    }

    /// Sets a hook that prepares each connection that was just opened. It gets the connection and returns it.
    ///
    /// It is a part of the dial, within the [`dial_timeout`](super::PoolBuilder::dial_timeout): if it fails or panics, the
    /// dial has failed.
    ///
    /// # Panics
    ///
    /// If the resource was cloned or used before.
    ///
    /// # Examples
    ///
    /// ```
    /// use perconn::pool::Pool;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # fn main() -> Result<(), perconn::Error> {
    /// let pool = Pool::new(64)?;
    /// let agent = pool.resource("10.0.0.7:4000")?.after_open(|mut stream| async move {
    ///     stream.read_u8().await?; // the greeting
    ///     Ok(stream)
    /// });
    /// # drop(agent);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn after_open<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<T>> + Send + 'static,
    {
        self.lifecycle().after_open = Some(boxed(hook));
        self
    }

    /// Sets a hook that checks or resets a connection before it is lent again. It gets the connection and returns it.
    ///
    /// If it returns an error, panics, or takes longer than the [`dial_timeout`](super::PoolBuilder::dial_timeout), the
    /// connection was found dead, and the pool opens another one in its place. The hook has dropped it then, so there is
    /// no [release action](Self::release).
    ///
    /// The hook is called after the checks of the pool and [`check`](Self::check), and not for a connection that was just
    /// opened. As a dial, it goes on if its caller leaves: the connection then goes to the next caller.
    ///
    /// # Panics
    ///
    /// If the resource was cloned or used before.
    ///
    /// # Examples
    ///
    /// ```
    /// use perconn::pool::Pool;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # fn main() -> Result<(), perconn::Error> {
    /// let pool = Pool::new(64)?;
    /// let agent = pool.resource("10.0.0.7:4000")?.before_reuse(|mut stream| async move {
    ///     stream.write_all(b"PING\n").await?;
    ///     stream.read_exact(&mut [0; 5]).await?;
    ///     Ok(stream)
    /// });
    /// # drop(agent);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn before_reuse<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<T>> + Send + 'static,
    {
        self.lifecycle().before_reuse = Some(boxed(hook));
        self
    }

    /// Sets how the pool closes a connection, in place of a drop: with a goodbye message, for example.
    ///
    /// The pool runs it for every connection that it closes, whatever the [reason](super::CloseReason), in a task of the
    /// runtime in which the connection was opened. Until it has ended, the slot is not free (it counts as
    /// [`releasing`](super::Stats::releasing)), and the resource is not dialed again. After 5 s it is dropped, and so
    /// is the connection.
    ///
    /// An error, a panic and a timeout are counted ([`Stats::releases_failed`](super::Stats::releases_failed)) and reported
    /// as [`Event::ReleaseFailed`](super::Event::ReleaseFailed).
    ///
    /// # Panics
    ///
    /// If the resource was cloned or used before.
    ///
    /// # Examples
    ///
    /// ```
    /// use perconn::pool::Pool;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # fn main() -> Result<(), perconn::Error> {
    /// let pool = Pool::new(64)?;
    /// let agent = pool.resource("10.0.0.7:4000")?.release(|mut stream| async move {
    ///     stream.write_all(b"QUIT\n").await?;
    ///     stream.shutdown().await
    /// });
    /// # drop(agent);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn release<F, Fut>(mut self, action: F) -> Self
    where
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        self.lifecycle().release = Some(boxed(action));
        self
    }

    /// The hooks, while nobody else has the resource.
    #[track_caller]
    fn lifecycle(&mut self) -> &mut Lifecycle<T> {
        match self.inner_mut() {
            Some(inner) => &mut inner.lifecycle,
            None => panic!("a hook of a resource is set before it is cloned or used"),
        }
    }
}

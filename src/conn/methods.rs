//! The methods that a whole connection and its halves have in common. (Macros, as each type shows them in its docs.)

/// What a whole connection and its halves have in common.
macro_rules! common_methods {
    ($direction:expr) => {
        /// The stream of the live link: its addresses, its socket options.
        ///
        /// `None` while there is no link, and while a break is still to be told. What is set on the stream is gone
        /// with the link; settings that shall be made on every link belong to the [`Builder`](crate::Builder) or to
        /// the [dialer](crate::Builder::dialer). On a half, also `None` if the stream is not a socket, as the halves
        /// then share it behind a lock.
        pub fn get_ref(&self) -> Option<&S>
        where
            S: 'static,
        {
            self.handle.get_ref($direction)
        }

        /// The number of the newest link: 1 for the first, 0 before there is one.
        pub fn generation(&self) -> u64 {
            self.handle.conn_state.generation()
        }

        /// The number of the newest link whose break this handle has reported, 0 before the first.
        ///
        /// After a read that returned `Ok(0)`, which carries no error to say it, this is the link that the peer closed.
        pub fn last_reported(&self) -> u64 {
            self.handle.last_reported
        }

        /// Whether a link is up, as far as this machine knows.
        pub fn is_connected(&self) -> bool {
            self.handle.conn_state.status().is_connected()
        }

        /// The status of the connection at this moment.
        pub fn status(&self) -> Status {
            self.handle.conn_state.status()
        }

        /// Waits until a link is up.
        ///
        /// The future does not borrow the handle. A break that has not been told yet is still told by the next
        /// operation.
        ///
        /// # Errors
        ///
        /// [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`] if there will be no link.
        ///
        /// # Cancel safety
        ///
        /// Cancel safe: dropping the future changes nothing.
        pub fn connected(&self) -> impl Future<Output = Result<(), Error>> + use<S> {
            // (It is the context that keeps a connection alive, not the conn_state.)
            let conn_state = Arc::clone(&self.handle.conn_state);
            async move { conn_state.connected().await }
        }

        /// Watches the status of the connection. A break is seen here no later than an operation reports it.
        pub fn watch_status(&self) -> StatusWatch {
            self.handle.conn_state.watch_status()
        }

        /// Breaks the link on purpose, or, during an outage, dials at once instead of waiting for the delay to pass.
        ///
        /// The break is told like any other, as [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and the redial
        /// keeps to the backoff. A second call, while its delay runs, cuts that delay short: let one place in the program
        /// decide. Does nothing once the connection is closed or shut down.
        pub fn reconnect(&self) {
            self.handle.conn_state.reconnect();
        }

        /// Closes the connection for all its handles, at any moment.
        ///
        /// The socket is shut down at once, what waits ends with [`Error::ClosedConnection`], and so does every later
        /// operation. Bytes that the kernel had accepted are still delivered, unless received bytes were left
        /// unread. The future does not borrow the handle: it can be made in advance and given to another task, and
        /// closes when it is first polled. When it is ready, the actor has ended and nothing dials any more. Only a hook of the program
        /// that is running at the time is not waited for. (The actor needs its runtime to run; a runtime of one thread
        /// that nobody drives does not.) A stream that is not a socket is dropped with its handle, or at the handle's
        /// next operation.
        ///
        /// # Cancel safety
        ///
        /// Cancel safe: once polled, the connection is closed, and dropping the future only ends the wait.
        pub fn close(&self) -> impl Future<Output = ()> + use<S> {
            let conn_state = Arc::clone(&self.handle.conn_state);
            async move {
                conn_state.close();
                conn_state.publish();
                conn_state.actor_gone().await;
            }
        }
    };
}
pub(super) use common_methods;

/// The same for TCP.
macro_rules! tcp_methods {
    () => {
        /// The peer's address on the live link.
        ///
        /// # Errors
        ///
        /// [`NotConnected`](io::ErrorKind::NotConnected) if there is no live link that this handle may use.
        pub fn peer_addr(&self) -> io::Result<SocketAddr> {
            self.get_ref().ok_or(io::ErrorKind::NotConnected)?.peer_addr()
        }

        /// The address of this end of the live link.
        ///
        /// # Errors
        ///
        /// [`NotConnected`](io::ErrorKind::NotConnected) if there is no live link that this handle may use.
        pub fn local_addr(&self) -> io::Result<SocketAddr> {
            self.get_ref().ok_or(io::ErrorKind::NotConnected)?.local_addr()
        }
    };
}
pub(super) use tcp_methods;

/// Writing, which a whole connection does like a half.
macro_rules! write_methods {
    ($dir:ident) => {
        #[inline]
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let me = self.get_mut();
            me.handle.poll_write(&mut me.$dir, cx, Bytes::One(bytes))
        }

        #[inline]
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let me = self.get_mut();
            me.handle.poll_write(&mut me.$dir, cx, Bytes::Many(parts))
        }

        fn is_write_vectored(&self) -> bool {
            self.handle.is_write_vectored()
        }

        #[inline]
        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let me = self.get_mut();
            me.handle.poll_flush(&mut me.$dir, cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let me = self.get_mut();
            me.handle.poll_shutdown(&mut me.$dir, cx)
        }
    };
}
pub(super) use write_methods;

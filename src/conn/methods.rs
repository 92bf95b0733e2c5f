//! Macros for the methods that several handle types have.
//!
//! They are macros because each type has to show the methods in its own documentation. A common type behind `Deref`
//! would document them elsewhere, and a trait would have to be imported.
//!
//! Next: [`conn_state`](crate::conn_state), which most of them ask.

/// The methods of a whole connection, its halves and a `SharedConn` that only ask its [`ConnState`](crate::conn_state).
macro_rules! state_methods {
    ($self:ident => $conn_state:expr) => {
        /// The number of the newest link: 1 for the first, 0 before there is one.
        pub fn generation(&$self) -> u64 {
            $conn_state.generation()
        }

        /// Whether a link is up, as far as this machine knows.
        pub fn is_connected(&$self) -> bool {
            $conn_state.status().is_connected()
        }

        /// The status of the connection at this moment.
        pub fn status(&$self) -> Status {
            $conn_state.status()
        }

        /// Watches the status of the connection. A watch shows a break no later than an operation reports it.
        pub fn watch_status(&$self) -> StatusWatch {
            $conn_state.watch_status()
        }

        /// The figures of the connection since it was built: dials, breaks by cause, times, bytes, the last failure.
        pub fn stats(&$self) -> ConnStats {
            StatsSource::stats(&*$conn_state)
        }

        /// Asks for the [`stats`](Self::stats) from elsewhere: a task that records them while another one uses the connection.
        pub fn watch_stats(&$self) -> StatsWatch
        where
            S: Send + 'static,
        {
            StatsWatch::new(Arc::clone(&$conn_state) as Arc<dyn StatsSource + Send + Sync>)
        }

        /// Waits until a link is up, whatever [`when_down`](crate::Builder::when_down) says.
        ///
        /// The future does not borrow the handle. The next operation still reports a break that was not reported yet.
        ///
        /// # Errors
        ///
        /// [`Error::ClosedConnection`], [`Error::GaveUp`] or [`Error::RuntimeShutdown`] if there will be no further
        /// link.
        ///
        /// # Cancel safety
        ///
        /// Cancel safe: dropping the future changes nothing.
        pub fn connected(&$self) -> impl Future<Output = Result<(), Error>> + use<S> {
            // Not the context, which would keep the connection open.
            let conn_state = Arc::clone(&$conn_state);
            async move { conn_state.connected().await }
        }

        /// Breaks the link of this [`generation`](Self::generation) on purpose, for all handles.
        ///
        /// Use it when a link has to go and other handles, or operations under way, may be using it. Each handle, this
        /// one included, reports the break like any other, as
        /// [`ConnectionAborted`](std::io::ErrorKind::ConnectionAborted). The redial keeps to the backoff.
        ///
        /// Does nothing if that link is gone, or was never there. So a second call never breaks the next link, and neither
        /// does a late call, if you have the number from before: from an error, an event, or a `generation()` that you
        /// asked for while the link was in use. `break_link(generation())` breaks the newest link, which may be a fresh
        /// one. That costs a redial, and nothing else. After a shutdown, the link is the last one: breaking it ends the connection.
        #[doc(alias("reconnect", "disconnect", "reset"))]
        pub fn break_link(&$self, generation: u64) {
            $conn_state.break_link(generation);
        }

        /// Cuts the delay before the next dial short: "the network is back".
        ///
        /// Dials at once if the last dial ended at least [`retry_min`](crate::Builder::retry_min) ago, otherwise as soon
        /// as that time has passed. So however often you call it, there is at most one dial in `retry_min`. The delays
        /// drawn after failed dials go on growing. If a dial is under way and fails, the call counts for the delay after
        /// it. Does nothing while a link is up and after the end.
        ///
        /// The dial counts towards [`max_retries`](crate::Builder::max_retries), like any other. With a
        /// [`DialLimit`](crate::DialLimit), it waits for its turn, like any other; this call does not shorten that wait.
        ///
        /// Without this call, the connection dials by itself. Call it when something tells you that a dial may succeed
        /// now, such as a change of the network interfaces, and not in answer to an error. If you call it all the time,
        /// there is a dial in each `retry_min` instead of the growing delays. And clients that hear the same news at the
        /// same moment dial at the same moment: where they are many, spread the calls.
        #[doc(alias("reconnect", "retry", "wake"))]
        pub fn dial_now(&$self) {
            $conn_state.dial_now();
        }
    };
}
pub(super) use state_methods;

/// The methods of a whole connection and its halves that concern their own link, and `close`.
macro_rules! handle_methods {
    ($direction:expr) => {
        /// The stream of the live link: its addresses, its socket options.
        ///
        /// `None` while there is no link, and while a break is not reported yet. On a half, also `None` if the stream
        /// is not a socket, because the halves then share it behind a lock.
        ///
        /// What you set on the stream is gone with the link. Settings for every link belong in the
        /// [`Builder`](crate::Builder) or in the [dialer](crate::Builder::dialer).
        pub fn get_ref(&self) -> Option<&S>
        where
            S: 'static,
        {
            self.handle.get_ref($direction)
        }

        /// The number of the newest link whose break this handle has reported, 0 before the first.
        ///
        /// A read that returns `Ok(0)` carries no error with the number. After it, this is the link that the peer
        /// closed.
        pub fn last_reported(&self) -> u64 {
            self.handle.last_reported
        }

        /// Closes the connection for all its handles, at any moment.
        ///
        /// The socket is shut down at once. Every operation that waits, and every later one, fails with
        /// [`Error::ClosedConnection`]. Bytes that the kernel had accepted are still delivered, unless received bytes
        /// were left unread. A stream that is not a socket is dropped with its handle, or at the handle's next
        /// operation.
        ///
        /// The future does not borrow the handle. You can make it in advance and give it to another task; it closes the
        /// connection when it is first polled. When it is ready, the actor has ended and nothing dials any more. It
        /// does not wait for a hook of the program that is running at the time. Otherwise it is ready after the hook for
        /// [`Event::Closed`](crate::Event::Closed) has returned, and the dialer and the hooks are dropped. The actor needs
        /// its runtime to end: on a single-threaded runtime that nothing drives, the future is never ready.
        ///
        /// # Cancel safety
        ///
        /// Cancel safe: once polled, the connection is closed, and dropping the future only ends the wait.
        pub fn close(&self) -> impl Future<Output = ()> + use<S> {
            let conn_state = Arc::clone(&self.handle.conn_state);
            async move {
                conn_state.close();
                conn_state.actor_gone().await;
            }
        }
    };
}
pub(super) use handle_methods;

/// The addresses of a link over TCP.
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

        /// The local address of the live link.
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

/// The methods of `AsyncWrite`, the same for a whole connection and a half.
macro_rules! write_methods {
    ($dir:ident) => {
        #[inline]
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let me = self.get_mut();
            me.handle.poll_write(&mut me.$dir, cx, WriteBufs::One(bytes))
        }

        #[inline]
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let me = self.get_mut();
            me.handle.poll_write(&mut me.$dir, cx, WriteBufs::Many(parts))
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

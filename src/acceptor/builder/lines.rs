//! The settings of a handler of lines in the builder, but for the handler itself.
//!
//! Next: [`super::super::line`], which follows them.

use super::AcceptorBuilder;

impl AcceptorBuilder {
    /// Sets the maximum length of a line in bytes, without its end. Defaults to 8192; at least 1.
    ///
    /// A longer line closes its connection, which counts as failed; see [`too_long_answer`](Self::too_long_answer). The read
    /// buffer of a connection takes up to about twice this length and 8 KiB.
    pub fn max_line_length(mut self, bytes: usize) -> Self {
        self.max_line_length = bytes;
        self
    }

    /// Sets the text that a client receives after it has sent a line that is too long, before the close. Defaults to nothing.
    ///
    /// It is sent as it is; end it with a line feed if your clients read lines. The client has one second to read it and to
    /// close. What it sends meanwhile is dropped.
    ///
    /// ```
    /// use perconn::acceptor::Acceptor;
    ///
    /// let builder = Acceptor::builder("127.0.0.1:0").max_line_length(512).too_long_answer("500 Line too long\r\n");
    /// # drop(builder);
    /// ```
    pub fn too_long_answer(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.too_long_answer = text.into();
        self
    }

    /// Sets whether bytes without a line feed at the end of the stream are a line. Defaults to `false`: they are dropped, as
    /// they may be a part of a line.
    ///
    /// With `true`, the handler receives them as they are. That is for protocols that tell a whole message from a part of one,
    /// and for clients such as `printf` and `nc`. It needs an end of the stream: after a reset, or the end of a TLS session
    /// without a close_notify, they are dropped.
    pub fn last_line_without_end(mut self, is_a_line: bool) -> Self {
        self.last_line_without_end = is_a_line;
        self
    }

    /// Sets how many lines of one connection are handled at the same time. Defaults to 1: one after the other. At least 1.
    ///
    /// For clients that send several requests without waiting for the answers. Each line is then a task of its own, so answers come
    /// in the order in which the handlers send them, and your protocol has to say which is which. While `n` lines are at work,
    /// nothing more is read.
    ///
    /// Before the connection ends, the lines at work run to their end: at the end of the stream, after
    /// [`close`](crate::acceptor::LineConn::close), after an error of a handler, and at a stop, which also handles the lines that
    /// have arrived. A panic or the deadline of a stop ends them at once. While lines are at work, no time limit of the client
    /// runs.
    ///
    /// ```
    /// use std::time::Duration;
    /// use perconn::acceptor::{Acceptor, LineConn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::acceptor::Error> {
    /// let acceptor = Acceptor::builder("127.0.0.1:0")
    ///     .concurrent_lines(16)
    ///     .line_handler(async |line, conn: LineConn| {
    ///         tokio::time::sleep(Duration::from_millis(100)).await; // what takes time: a query, another service
    ///         conn.send([b"done: ", &line[..]].concat()).await
    ///     })
    ///     .build()?;
    /// # drop(acceptor);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("parallel", "pipelining", "goroutine"))]
    pub fn concurrent_lines(mut self, n: usize) -> Self {
        self.concurrent_lines = n;
        self
    }
}

//! The dialer of Unix domain sockets.
//!
//! A path needs no resolution and no race of addresses, so a dial is one connect(2). It fails at once if nothing
//! listens there: the actor's delays then decide when to try again. Next: [`TcpDialer`](crate::TcpDialer), the dialer
//! for TCP.

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::Dial;
use crate::Error;
use crate::link::is_closed_now;

/// Dials a Unix domain socket; see [`Conn::unix`](crate::Conn::unix). Unix only.
#[derive(Clone, Debug)]
pub struct UnixDialer {
    /// Not checked before [`Dial::check`]. A leading zero byte means the abstract namespace of Linux.
    path: PathBuf,
}

impl UnixDialer {
    /// A dialer for the socket at this path. The path is checked when the connection is built.
    ///
    /// ```no_run
    /// use perconn::{Conn, UnixDialer};
    ///
    /// # fn example() -> Result<(), perconn::Error> {
    /// // The same as `Conn::unix("/run/agent.sock")`, with an address of your own for errors and logs.
    /// let conn = Conn::builder("agent").dialer(UnixDialer::new("/run/agent.sock")).build()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// On Linux, a path that begins with a zero byte is a name in the abstract namespace (unix(7)).
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The path is checked: neither empty nor longer than the kernel allows, and without zero bytes.
impl Dial for UnixDialer {
    type Stream = UnixStream;

    async fn dial(&mut self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.path).await
    }

    fn check(&self) -> Result<(), Error> {
        let path = &self.path;
        if path.as_os_str().is_empty() {
            return Err(Error::InvalidConfig("socket path \"\": expected the path of a socket".into()));
        }
        let bytes = path.as_os_str().as_encoded_bytes();
        let is_abstract = cfg!(any(target_os = "linux", target_os = "android")) && bytes[0] == 0;
        if bytes == [0] || (!is_abstract && bytes.contains(&0)) {
            return Err(Error::InvalidConfig(format!("socket path {path:?}: expected no zero byte in it")));
        }
        // The kernel limits the length in bytes; socket2 knows the limit.
        match socket2::SockAddr::unix(path) {
            Ok(_) => Ok(()),
            Err(error) => {
                let length = path.as_os_str().len();
                Err(Error::InvalidConfig(format!("socket path {path:?} of {length} bytes: {error}")))
            }
        }
    }

    fn is_closed(stream: &UnixStream) -> bool {
        is_closed_now(stream)
    }
}

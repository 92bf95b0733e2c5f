//! What follows a failure: the program's verdict, and errors that no other dial can mend.
//!
//! A failure is a dial that failed or a link that broke. Unless the program says something else, the next dial follows
//! after the backoff. Next: `actor/verdict.rs`, where the actor asks.

use std::error::Error;
use std::time::Duration;
use std::{fmt, io};

use crate::causes::find;

/// What follows a failed dial or a broken link; returned by the function of [`Builder::retry_if`](crate::Builder::retry_if).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Dial again after the next delay, as without a verdict.
    Backoff,
    /// Dial again after at least this long, for a server that says when it will be back.
    ///
    /// The delay is random, from this time to a quarter more, so that clients that got the same answer do not come back
    /// together. It may exceed [`retry_max`](crate::Builder::retry_max), and is at least
    /// [`retry_min`](crate::Builder::retry_min).
    After(Duration),
    /// Do not dial again. The connection ends: every operation on every handle returns
    /// [`Error::GaveUp`](crate::Error::GaveUp) with the failure as its source.
    Stop,
}

/// Marks an error as final: no other dial can mend it, so the connection gives up at once.
///
/// For a session set-up or a dialer, whose other errors are followed by the next dial: a login that the server refuses, a
/// version that it does not speak. Every operation on every handle then returns [`Error::GaveUp`](crate::Error::GaveUp). Its
/// chain of sources has your error; its kind is that of your error if it is an [`io::Error`], and
/// [`Other`](io::ErrorKind::Other) if not. [`Builder::retry_if`](crate::Builder::retry_if) is not asked.
///
/// It is for the connection of a [`Builder`](crate::Builder), and everything that is built on one. A pool hands an error to
/// the caller that asked for the connection, and dials again for the next one.
///
/// ```
/// use perconn::Conn;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr()?;
/// # tokio::spawn(async move { server.accept().await?.0.write_all(b"NO").await });
/// let builder = Conn::builder(address).and_then(|mut stream| async move {
///     let mut answer = [0; 2];
///     stream.read_exact(&mut answer).await?;
///     if answer == *b"NO" { Err(perconn::fatal("the server refuses the login")) } else { Ok(stream) }
/// });
/// let mut conn = builder.build()?;
/// let error = conn.write(b"hello").await.unwrap_err(); // at once, and not after a minute of dials
/// assert!(perconn::Error::of(&error).is_some_and(|error| error.is_final()));
/// # Ok(())
/// # }
/// ```
#[doc(alias("permanent", "abort", "unrecoverable", "no_retry"))]
pub fn fatal(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    let error = error.into();
    let kind = error.downcast_ref().map_or(io::ErrorKind::Other, io::Error::kind);
    io::Error::new(kind, Fatal(error))
}

/// Whether the error of a dial is marked as [`fatal`], at any place in its chain.
pub(crate) fn is_fatal(error: &io::Error) -> bool {
    find::<Fatal>(error).is_some()
}

/// An error that is marked as final.
#[derive(Debug)]
struct Fatal(Box<dyn Error + Send + Sync>);

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("final, no dial follows")
    }
}

impl Error for Fatal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::WithCauses;
    use crate::io_error::SharedIoError;

    #[test]
    fn fatal_error_keeps_its_kind_and_shows_its_cause() {
        let error = fatal(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(fatal("refused").kind(), io::ErrorKind::Other);
        let error = fatal("refused");
        assert_eq!(WithCauses(&error).to_string(), "final, no dial follows: refused");
    }

    #[test]
    fn fatal_error_is_found_at_any_depth() {
        assert!(is_fatal(&fatal("refused")));
        assert!(is_fatal(&io::Error::other(fatal("refused"))));
        assert!(is_fatal(&fatal(fatal("refused"))));
        assert!(is_fatal(&SharedIoError::new(io::Error::other(fatal("refused"))).to_io()));
        assert!(!is_fatal(&io::Error::other("refused")));
        assert!(!is_fatal(&io::Error::from_raw_os_error(111)));
    }
}

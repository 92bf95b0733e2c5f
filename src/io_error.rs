//! Copies of I/O errors, and the two kinds that are not failures.
//!
//! Next: [`fault`](crate::fault), which keeps the I/O error of a break for every handle.

use std::sync::Arc;
use std::{error, fmt, io};

use crate::panics::QuietDrop;

/// Whether an error means "call again": [`WouldBlock`](io::ErrorKind::WouldBlock) or
/// [`Interrupted`](io::ErrorKind::Interrupted).
///
/// These two kinds do not break a link. No stream of tokio returns them, but a stream of the program may.
pub(crate) fn is_try_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Checks the outcome of a write of `given` bytes on a stream of the program, which may say that it has taken more.
pub(crate) fn check_written(outcome: io::Result<usize>, given: usize) -> io::Result<usize> {
    let written = outcome?;
    if written > given {
        let text = format!("the stream says that it has taken {written} bytes of the {given} that it was given");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(written)
}

/// One [`io::Error`] for several handles; `io::Error` itself cannot be cloned.
#[derive(Clone, Debug)]
pub(crate) struct SharedIoError(Arc<QuietDrop<io::Error>>);

impl SharedIoError {
    /// Shares this error.
    pub(crate) fn new(error: io::Error) -> Self {
        Self(Arc::new(QuietDrop::new(error)))
    }

    /// Makes another error with the same kind, operating-system code, text and cause.
    pub(crate) fn to_io(&self) -> io::Error {
        match self.0.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.0.kind(), self.clone()),
        }
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.0.kind()
    }

    /// The error as it came.
    pub(crate) fn original(&self) -> &io::Error {
        &self.0
    }

    /// Whether it says only that the peer has gone, and not why.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }

    /// Whether the kernel returned this error.
    pub(crate) fn is_from_kernel(&self) -> bool {
        self.0.raw_os_error().is_some()
    }
}

impl fmt::Display for SharedIoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for SharedIoError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::Error;

    #[test]
    fn copies_of_an_error_keep_its_kind_code_text_and_cause() {
        let kernel = SharedIoError::new(io::Error::from_raw_os_error(104));
        assert_eq!(kernel.to_io().raw_os_error(), Some(104));

        let bad_number = "x".parse::<u8>().unwrap_err();
        let inner = Error::DialFailure {
            address: "a:1".into(),
            attempt: 1,
            source: io::Error::new(io::ErrorKind::InvalidData, bad_number),
        };
        let custom = SharedIoError::new(io::Error::new(io::ErrorKind::InvalidData, inner)).to_io();
        assert_eq!(custom.kind(), io::ErrorKind::InvalidData);
        assert_eq!(custom.to_string(), "dial 1 to a:1 failed");
        assert_eq!(custom.source().unwrap().to_string(), "invalid digit found in string");
    }
}

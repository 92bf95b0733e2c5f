//! The outcome of the first dials, for a `connect` that waits for it.
//!
//! Next: [`rules`](super::rules), which decide which dial is the last of them.

use std::fmt::Write as _;
use std::io;

use tokio::sync::oneshot;

use crate::Error;
use crate::causes::WithCauses;
use crate::io_error::SharedIoError;

/// Sends the outcome to `connect`, and keeps the failures until then.
pub(crate) struct FirstOutcome {
    /// To the caller of `connect`, which may have given up.
    sender: oneshot::Sender<Result<(), Error>>,
    /// How each dial has failed, in order. Each error names its address if there are several.
    failures: Vec<SharedIoError>,
}

impl FirstOutcome {
    /// An outcome, and its receiver. The receiver fails if the actor ends without an outcome.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<(), Error>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, failures: Vec::new() }, receiver)
    }

    /// One of the dials has failed.
    pub(super) fn add_failure(&mut self, error: SharedIoError) {
        self.failures.push(error);
    }

    /// There is a link.
    pub(super) fn succeed(self) {
        let _ = self.sender.send(Ok(()));
    }

    /// The last of the dials, which has this number, has failed. If its failure is final, the others do not matter.
    pub(super) fn fail(self, address: String, attempt: u32, is_final: bool) {
        let first = if is_final { self.failures.len().saturating_sub(1) } else { 0 };
        let source = all_failed(&self.failures[first..]);
        let _ = self.sender.send(Err(Error::DialFailure { address, attempt, source }));
    }
}

/// One error for all dials: the only one, or the kind of the last one and the texts of all.
fn all_failed(failures: &[SharedIoError]) -> io::Error {
    let last = match failures {
        [] => return io::ErrorKind::Other.into(),
        [only] => return only.to_io(),
        [.., last] => last,
    };
    let mut text = String::from("all addresses failed");
    for (index, failure) in failures.iter().enumerate() {
        let separator = if index == 0 { ": " } else { "; " };
        let _ = write!(text, "{separator}{}", WithCauses(failure));
    }
    io::Error::new(last.to_io().kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_several_dials_has_the_text_of_each_and_the_kind_of_the_last() {
        let failure = |kind: io::ErrorKind| SharedIoError::new(kind.into());
        let error = all_failed(&[failure(io::ErrorKind::TimedOut), failure(io::ErrorKind::ConnectionRefused)]);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), "all addresses failed: timed out; connection refused");
    }

    #[test]
    fn error_of_one_dial_is_its_own() {
        let error = all_failed(&[SharedIoError::new(io::Error::from_raw_os_error(111))]);
        assert_eq!(error.raw_os_error(), Some(111));
    }
}

//! An error and its causes: in one line of text, as an iterator, and the first of a type.
//!
//! Next: [`Error::with_causes`](crate::Error::with_causes), the public form.

use std::error::Error;
use std::{fmt, io};

use crate::io_error::SharedIoError;

/// Displays an error and the chain of its [`source`](Error::source)s, each after a colon.
pub(crate) struct WithCauses<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        causes(self.0).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// The causes of an error, the nearest first.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (**cause).source())
}

/// The first error of this type in the chain of an I/O error, itself included.
///
/// An [`io::Error`] hides the error that it was made with: its source is the source of that error. So each one is opened.
pub(crate) fn find<T: Error + 'static>(error: &io::Error) -> Option<&T> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error| inner_or_source(*error))
        .find_map(|error| error.downcast_ref())
}

/// The error inside of an [`io::Error`], or the source of any other.
fn inner_or_source<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.get_ref().map(|inner| inner as _);
    }
    match error.downcast_ref::<SharedIoError>() {
        Some(shared) => Some(shared.original()),
        None => error.source(),
    }
}

//! What the error of a dial was about: the dialed address, and the step that the dial timeout has ended.
//!
//! Next: [`Dial::dialed_address`] and [`Dial::unfinished_step`], which know it.

use std::{error, fmt, io};

use super::Dial;
use crate::panics::catch;

/// Names the step that the last dial has not finished, and its address, if the dialer has several addresses. Keeps the kind
/// of the error.
pub(crate) fn name_address<D: Dial>(dialer: &D, error: io::Error) -> io::Error {
    // The dialer can be code of the program. A panic in it only costs the name.
    let step = catch(|| dialer.unfinished_step()).ok().flatten();
    let address = catch(|| address_if_several(dialer)).ok().flatten();
    step.into_iter().chain(address).fold(error, |error, name| name_error(name, error))
}

/// The address of the last dial, if the dialer has several.
pub(crate) fn address_if_several<D: Dial>(dialer: &D) -> Option<String> {
    let has_several = dialer.addresses().len() > 1;
    dialer.dialed_address().filter(|_| has_several).map(ToString::to_string)
}

/// An error with this text, whose source is `error`. Keeps its kind.
pub(super) fn name_error(name: String, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Named { name, error })
}

/// An error whose text says what it was about, and whose source says what failed.
#[derive(Debug)]
struct Named {
    /// An address as the program wrote it, or a step of the dial.
    name: String,
    /// The error of the dial.
    error: io::Error,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl error::Error for Named {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}

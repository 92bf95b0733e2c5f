//! The name of the dialed address in the error of a dial.
//!
//! Next: [`Dial::dialed_address`], which knows it.

use std::{error, fmt, io};

use super::Dial;
use crate::panics::catch;

/// Names the address of the last dial in its error, if the dialer has several addresses. Keeps the kind of the error.
pub(crate) fn name_address<D: Dial>(dialer: &D, error: io::Error) -> io::Error {
    // The dialer can be code of the program. A panic in it only costs the name.
    match catch(|| address_if_several(dialer)) {
        Ok(Some(address)) => io::Error::new(error.kind(), AtAddress { address, error }),
        _ => error,
    }
}

/// The address of the last dial, if the dialer has several.
pub(crate) fn address_if_several<D: Dial>(dialer: &D) -> Option<String> {
    let has_several = dialer.addresses().len() > 1;
    dialer.dialed_address().filter(|_| has_several).map(ToString::to_string)
}

/// An error whose text is an address, and whose source says what failed there.
#[derive(Debug)]
struct AtAddress {
    /// As the program wrote it.
    address: String,
    /// The error of the dial.
    error: io::Error,
}

impl fmt::Display for AtAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl error::Error for AtAddress {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}

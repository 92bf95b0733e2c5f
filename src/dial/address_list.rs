//! The addresses of one service, and which of them is dialed next.
//!
//! Next: [`TcpDialer`](super::TcpDialer), which dials one of them each time.

use crate::{Address, Error};

/// Addresses, one for each dial. May be malformed or empty until [`check`](Self::check) has passed.
#[derive(Clone, Debug)]
pub(super) struct AddressList {
    /// In the order of the program.
    addresses: Addresses,
    /// The index of the address to dial next.
    next: usize,
    /// The index of the address that was dialed last.
    dialed: usize,
    /// Whether the last dial has succeeded.
    is_reached: bool,
}

/// The addresses to dial. Most connections have one, which needs no list on the heap.
#[derive(Clone, Debug)]
enum Addresses {
    /// Dialed each time.
    One(Address),
    /// Each dial is to one of them.
    Several(Vec<Address>),
}

impl Addresses {
    /// All addresses, in the order of the program.
    fn as_slice(&self) -> &[Address] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Several(addresses) => addresses,
        }
    }
}

impl AddressList {
    /// One address.
    pub(super) fn one(address: Address) -> Self {
        Self::of(Addresses::One(address))
    }

    /// Several addresses. The first is dialed first.
    pub(super) fn several<A: Into<Address>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self::of(Addresses::Several(addresses.into_iter().map(Into::into).collect()))
    }

    /// A list that begins with the first address.
    fn of(addresses: Addresses) -> Self {
        Self { addresses, next: 0, dialed: 0, is_reached: false }
    }

    /// All addresses, in the order of the program.
    pub(super) fn as_slice(&self) -> &[Address] {
        self.addresses.as_slice()
    }

    /// The address that was dialed last.
    pub(super) fn dialed(&self) -> Option<&Address> {
        self.as_slice().get(self.dialed)
    }

    /// Begins a dial. Returns the index of its address, and the address.
    ///
    /// The dial may be dropped at any time. Unless it [succeeds](Self::reached), the next one is to the next address.
    pub(super) fn begin(&mut self) -> Result<(usize, Address), Error> {
        let index = self.next;
        let address = self.as_slice().get(index).cloned().ok_or_else(no_addresses)?;
        self.dialed = index;
        self.is_reached = false;
        self.next = self.index_after(index);
        Ok((index, address))
    }

    /// The dial that was begun last has succeeded: the next one is to the same address.
    pub(super) fn reached(&mut self) {
        self.is_reached = true;
        self.next = self.dialed;
    }

    /// The last dial was of no use after all. Returns whether it had succeeded.
    pub(super) fn failed(&mut self) -> bool {
        let was_reached = std::mem::take(&mut self.is_reached);
        if was_reached {
            self.next = self.index_after(self.dialed);
        }
        was_reached
    }

    /// Checks each address with `check`, and that there is one.
    pub(super) fn check(&self, check: impl FnMut(&Address) -> Result<(), Error>) -> Result<(), Error> {
        match self.as_slice() {
            [] => Err(no_addresses()),
            addresses => addresses.iter().try_for_each(check),
        }
    }

    /// The index that follows `index`; the first follows the last.
    fn index_after(&self, index: usize) -> usize {
        (index + 1) % self.as_slice().len()
    }
}

/// The error of an empty list.
fn no_addresses() -> Error {
    Error::InvalidConfig("addresses []: expected at least one".into())
}

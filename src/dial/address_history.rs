//! How earlier dials to the IP addresses of one name ended, and the order that follows from it.
//!
//! Next: [`TcpDialer`](super::TcpDialer), which keeps it from dial to dial.

use std::net::SocketAddr;

use super::happy_eyeballs::interleave;

/// How earlier dials to the IP addresses of one name ended.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressHistory {
    /// The address that answered last.
    good: Option<SocketAddr>,
    /// Addresses that led to the dial timeout or to a failed set-up, the oldest failure first.
    bad: Vec<SocketAddr>,
}

impl AddressHistory {
    /// Puts the good address first, then those without a history, then the bad ones, the latest failure last.
    ///
    /// Forgets bad addresses that the name no longer has.
    pub(super) fn sort(&mut self, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        self.bad.retain(|bad| found.contains(bad));
        let (mut found, good): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| Some(*address) != self.good);
        found.splice(..0, good);
        let mut found = interleave(found);
        found.sort_by_key(|address| self.bad.iter().position(|bad| bad == address).map_or(0, |rank| rank + 1));
        found
    }

    /// An attempt at this address has led to the dial timeout or to a failed set-up.
    pub(super) fn mark_bad(&mut self, address: SocketAddr) {
        self.mark_good(address);
        self.good = None;
        self.bad.push(address);
    }

    /// The link to the address that answered last was of no use.
    pub(super) fn mark_good_as_bad(&mut self) {
        if let Some(good) = self.good {
            self.mark_bad(good);
        }
    }

    /// This address has answered.
    pub(super) fn mark_good(&mut self, address: SocketAddr) {
        self.bad.retain(|bad| *bad != address);
        self.good = Some(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|last| SocketAddr::from(([192, 0, 2, *last], 80))).collect()
    }

    #[test]
    fn good_address_comes_first_and_bad_ones_last_by_age_of_failure() {
        let all = addresses(&[1, 2, 3, 4]);
        let mut history = AddressHistory::default();
        assert_eq!(history.sort(all.clone()), all);
        history.mark_good(all[2]);
        assert_eq!(history.sort(all.clone()), addresses(&[3, 1, 2, 4]));
        history.mark_bad(all[2]);
        assert_eq!(history.sort(all.clone()), addresses(&[1, 2, 4, 3]));
        history.mark_bad(all[0]);
        assert_eq!(history.sort(all.clone()), addresses(&[2, 4, 3, 1]));
        history.mark_good(all[0]);
        assert_eq!(history.sort(all), addresses(&[1, 2, 4, 3]));
        // Addresses that the name no longer has are forgotten.
        history.sort(addresses(&[1]));
        assert_eq!(history.bad, []);
    }
}

//! The default dialer.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::Dial;
use super::happy_eyeballs::{interleave, race};
use crate::link::is_closed_now;
use crate::{Address, Error, SocketOptions};

/// Dials a TCP address: the default of [`Conn::builder`](crate::Conn::builder).
///
/// The name is resolved anew at each dial. If it has several addresses, they are tried as Happy Eyeballs (RFC 8305) has it:
/// the IP versions take turns, each attempt has a head start of 250 ms over the next or until it fails, and the first that
/// answers wins. The one that won last time comes first. One that led a dial into its dial timeout, or to a set-up that
/// failed, comes last.
///
/// The [`SocketOptions`] are set on each socket before it connects.
#[derive(Clone, Debug)]
pub struct TcpDialer {
    addresses: Addresses,
    /// Which of them is dialed next.
    next: usize,
    /// Which of them the last dial has reached.
    reached: Option<usize>,
    memory: Option<Box<Memory>>,
    options: Option<Box<SocketOptions>>,
}

/// What is dialed. (A single address, as most connections have it, needs no list.)
#[derive(Clone, Debug)]
enum Addresses {
    One(Address),
    Several(Vec<Address>),
}

impl Addresses {
    fn as_slice(&self) -> &[Address] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Several(addresses) => addresses,
        }
    }
}

/// What earlier dials have taught about the IP addresses of a name that has several.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// It answered last.
    good: Option<SocketAddr>,
    /// They led dials into the dial timeout, or to a set-up that failed; the latest of them comes last.
    bad: Vec<SocketAddr>,
}

impl Memory {
    /// The good one first, those that nothing is known of next, the bad ones last.
    fn sort(&mut self, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        self.bad.retain(|bad| found.contains(bad));
        let (mut found, good): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| Some(*address) != self.good);
        found.splice(..0, good);
        let mut found = interleave(found);
        found.sort_by_key(|address| self.bad.iter().position(|bad| bad == address).map_or(0, |rank| rank + 1));
        found
    }

    fn is_bad(&mut self, address: SocketAddr) {
        self.is_good(address);
        self.good = None;
        self.bad.push(address);
    }

    fn is_good(&mut self, address: SocketAddr) {
        self.bad.retain(|bad| *bad != address);
        self.good = Some(address);
    }
}

impl TcpDialer {
    /// A dialer for this address; it is checked when the connection is built.
    pub fn new(address: impl Into<Address>) -> Self {
        Self::of(Addresses::One(address.into()))
    }

    /// A dialer for several addresses of one service.
    ///
    /// Each dial is to one of them, the first one first. After a dial that has failed, in a set-up on top of it too, the next
    /// one in the list has its turn, and after the last the first. After a break, the address of the link that broke is
    /// dialed again. They are checked when the connection is built; there must be one at least.
    pub fn with_addresses<A: Into<Address>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self::of(Addresses::Several(addresses.into_iter().map(Into::into).collect()))
    }

    fn of(addresses: Addresses) -> Self {
        Self { addresses, next: 0, reached: None, memory: None, options: None }
    }

    /// The number after this one.
    fn after(&self, index: usize) -> usize {
        (index + 1) % self.addresses.as_slice().len()
    }

    /// Says which of several addresses an error is about.
    fn name_address(&self, index: usize, error: io::Error) -> io::Error {
        match &self.addresses {
            Addresses::Several(several) if several.len() > 1 => {
                io::Error::new(error.kind(), format!("{}: {error}", several[index]))
            }
            _ => error,
        }
    }

    /// What to try for one address of the list, in order.
    async fn resolve(&self, address: &Address) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = address.parse()?;
        let mut found: Vec<_> = lookup_host((host, port)).await?.collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"));
        }
        if let Some(source) = self.options.as_ref().and_then(|options| options.source()) {
            found.retain(|address| address.is_ipv4() == source.is_ipv4());
            if found.is_empty() {
                let text = format!("the name has no addresses that can be dialed from {source}");
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
            }
        }
        Ok(found)
    }
}

impl Dial for TcpDialer {
    type Stream = TcpStream;

    async fn dial(&mut self) -> io::Result<TcpStream> {
        let index = self.next;
        let Some(address) = self.addresses.as_slice().get(index) else { return Err(no_addresses().into()) };
        // However this dial ends, be it that it is dropped: unless it succeeds, it is the next one's turn.
        self.reached = None;
        self.next = self.after(index);
        let options = self.options.as_deref().copied().unwrap_or_default();
        let found = self.resolve(address).await.map_err(|error| self.name_address(index, error))?;
        let found = match &found[..] {
            [_] => found,
            _ => self.memory.get_or_insert_default().sort(found),
        };
        if let (Some(memory), Some(first)) = (&mut self.memory, found.first()) {
            // Unless this dial comes to an end.
            memory.is_bad(*first);
        }
        let outcome = race(found, |address| connect(address, options)).await;
        if outcome.is_err() {
            self.memory = None;
        }
        let (good, stream) = outcome.map_err(|failures| self.name_address(index, all_failed(failures)))?;
        if let Some(memory) = &mut self.memory {
            memory.is_good(good);
        }
        self.reached = Some(index);
        self.next = index;
        Ok(stream)
    }

    fn check(&self) -> Result<(), Error> {
        if self.addresses.as_slice().is_empty() {
            return Err(no_addresses());
        }
        let source = self.options.as_ref().and_then(|options| options.source());
        self.addresses.as_slice().iter().try_for_each(|address| {
            let (host, _) = address.parse()?;
            match (source, host.parse::<IpAddr>()) {
                (Some(source), Ok(peer)) if source.is_ipv4() != peer.is_ipv4() => Err(Error::InvalidConfig(format!(
                    "local_address {source}: expected one of the IP version of the address {address}"
                ))),
                _ => Ok(()),
            }
        })
    }

    fn take_socket_options(&mut self, options: &SocketOptions) -> bool {
        self.options = Some(Box::new(*options));
        true
    }

    fn dial_failed(&mut self) {
        let Some(index) = self.reached.take() else { return };
        self.next = self.after(index);
        if let Some(memory) = &mut self.memory {
            if let Some(good) = memory.good {
                memory.is_bad(good);
            }
        }
    }

    /// Asks the kernel: one system call. Unread bytes do not hide the close on Linux; elsewhere they do.
    fn is_closed(stream: &TcpStream) -> bool {
        is_closed_now(stream)
    }
}

fn no_addresses() -> Error {
    Error::InvalidConfig("addresses []: expected one at least".into())
}

async fn connect(address: SocketAddr, options: SocketOptions) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    options.apply(&socket)?;
    if let Some(source) = options.source() {
        socket.bind((source, 0).into()).map_err(|error| cannot_bind(source, &error))?;
    }
    refuse_self(socket.connect(address).await?, address)
}

fn cannot_bind(source: IpAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("local address {source}: {error}"))
}

/// Refuses a stream that is connected to itself.
///
/// While nobody listens on a port of this machine from which outgoing connections are numbered, a dial to it can be
/// given that very port and meet itself (the simultaneous open of RFC 9293, 3.5). A client that redials for hours
/// would find it, and then keep the port from its server.
fn refuse_self(stream: TcpStream, dialed: SocketAddr) -> io::Result<TcpStream> {
    let local = stream.local_addr()?;
    // The unspecified address means this machine.
    let is_same_host = local.ip() == dialed.ip() || dialed.ip().is_unspecified();
    if is_same_host && local.port() == dialed.port() {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens; the dial met itself"));
    }
    Ok(stream)
}

/// One error for all addresses: the last one's kind, and each one's text.
fn all_failed(mut failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
    let Some((address, last)) = failures.pop() else { return io::ErrorKind::NotFound.into() };
    if failures.is_empty() {
        return last;
    }
    let mut text = String::from("no address answered: ");
    for (address, error) in &failures {
        let _ = write!(text, "{address}: {error}; ");
    }
    let _ = write!(text, "{address}: {last}");
    io::Error::new(last.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|last| SocketAddr::from(([192, 0, 2, *last], 80))).collect()
    }

    #[test]
    fn good_address_comes_first_and_bad_ones_last_the_latest_at_the_very_end() {
        let all = addresses(&[1, 2, 3, 4]);
        let mut memory = Memory::default();
        assert_eq!(memory.sort(all.clone()), all);
        memory.is_good(all[2]);
        assert_eq!(memory.sort(all.clone()), addresses(&[3, 1, 2, 4]));
        memory.is_bad(all[2]);
        assert_eq!(memory.sort(all.clone()), addresses(&[1, 2, 4, 3]));
        memory.is_bad(all[0]);
        assert_eq!(memory.sort(all.clone()), addresses(&[2, 4, 3, 1]));
        memory.is_good(all[0]);
        assert_eq!(memory.sort(all), addresses(&[1, 2, 4, 3]));
        // What the name does not have any more is forgotten.
        memory.sort(addresses(&[1]));
        assert_eq!(memory.bad, []);
    }

    #[test]
    fn error_of_several_addresses_names_each_with_its_cause() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let failures = vec![("[::1]:9".parse().unwrap(), refused()), ("127.0.0.1:9".parse().unwrap(), refused())];
        let error = all_failed(failures);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = "no address answered: [::1]:9: connection refused; 127.0.0.1:9: connection refused";
        assert_eq!(error.to_string(), text);
    }

    #[tokio::test]
    async fn stream_that_met_itself_is_refused() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        drop(socket);
        for dialed in [own, SocketAddr::from(([0, 0, 0, 0], own.port()))] {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(own).unwrap();
            let stream = socket.connect(own).await.unwrap();
            assert_eq!(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let error = refuse_self(stream, dialed).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn error_of_one_address_is_the_kernels_own() {
        let error = all_failed(vec![("127.0.0.1:9".parse().unwrap(), io::Error::from_raw_os_error(111))]);
        assert_eq!(error.raw_os_error(), Some(111));
    }
}

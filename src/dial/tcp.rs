//! The default dialer: TCP.
//!
//! From dial to dial it remembers which address of its list comes next, and which IP addresses of a name answered or
//! failed ([`AddressHistory`]). Next: [`race`], which connects to the IP addresses of one name.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::Dial;
use super::blocking_call::BlockingCall;
use super::happy_eyeballs::{interleave, race};
use crate::link::is_closed_now;
use crate::{Address, Error, SocketOptions};

/// Dials a TCP address: the default of [`Conn::builder`](crate::Conn::builder).
///
/// The name is resolved again at each dial. If it has several IP addresses, they are tried by Happy Eyeballs (RFC
/// 8305). The IP versions alternate. The next attempt starts 250 ms after the last one, or at once when that fails.
/// The first address that answers wins. The winner of the last dial is tried first. An address that led to the dial
/// timeout or to a failed set-up is tried last, and so is one whose link ended too soon.
///
/// A resolver that does not answer holds at most one thread for each address of the dialer: a dial whose name is still
/// being looked up for an earlier dial waits for that look-up.
///
/// The [`SocketOptions`] are set on each socket before it connects.
#[derive(Clone, Debug)]
pub struct TcpDialer {
    /// May be malformed or an empty list until [`Dial::check`] has passed.
    addresses: Addresses,
    /// The index of the address to dial next.
    next: usize,
    /// The index of the address that was dialed last.
    dialed: usize,
    /// The index of the address that the last dial connected to.
    reached: Option<usize>,
    /// The look-ups of names, by the index of the address. No longer than the highest index that needed one.
    lookups: Vec<BlockingCall<Vec<SocketAddr>>>,
    /// How earlier dials ended. `None` until a name has several IP addresses.
    history: Option<Box<AddressHistory>>,
    /// `None` if none is set, as for most connections.
    options: Option<Box<SocketOptions>>,
}

/// The addresses to dial. Most connections have one, which needs no list on the heap.
#[derive(Clone, Debug)]
enum Addresses {
    /// What [`TcpDialer::new`] makes.
    One(Address),
    /// In the order of the program. Each dial is to one of them.
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

/// How earlier dials to the IP addresses of one name ended.
#[derive(Clone, Debug, Default)]
struct AddressHistory {
    /// The address that answered last.
    good: Option<SocketAddr>,
    /// Addresses that led to the dial timeout or to a failed set-up, the oldest failure first.
    bad: Vec<SocketAddr>,
}

impl AddressHistory {
    /// Puts the good address first, then those without a history, then the bad ones, the latest failure last.
    ///
    /// Forgets bad addresses that the name no longer has.
    fn sort(&mut self, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        self.bad.retain(|bad| found.contains(bad));
        let (mut found, good): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| Some(*address) != self.good);
        found.splice(..0, good);
        let mut found = interleave(found);
        found.sort_by_key(|address| self.bad.iter().position(|bad| bad == address).map_or(0, |rank| rank + 1));
        found
    }

    /// An attempt at this address has led to the dial timeout or to a failed set-up.
    fn mark_bad(&mut self, address: SocketAddr) {
        self.mark_good(address);
        self.good = None;
        self.bad.push(address);
    }

    /// This address has answered.
    fn mark_good(&mut self, address: SocketAddr) {
        self.bad.retain(|bad| *bad != address);
        self.good = Some(address);
    }
}

impl TcpDialer {
    /// A dialer for this address. The address is checked when the connection is built.
    pub fn new(address: impl Into<Address>) -> Self {
        Self::of(Addresses::One(address.into()))
    }

    /// A dialer for several addresses of one service.
    ///
    /// Each dial is to one of them, beginning with the first. After a failed dial, a failed set-up on top of it, or a
    /// link that ended before [`stable_after`](crate::Builder::stable_after), the next dial is to the next address in
    /// the list; the first follows the last. After a break of a stable link, its address is dialed again. The addresses
    /// are checked when the connection is built. An empty list is not valid.
    #[doc(alias("failover", "round_robin", "cluster"))]
    pub fn with_addresses<A: Into<Address>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self::of(Addresses::Several(addresses.into_iter().map(Into::into).collect()))
    }

    /// A dialer that begins with the first address.
    fn of(addresses: Addresses) -> Self {
        Self { addresses, next: 0, dialed: 0, reached: None, lookups: Vec::new(), history: None, options: None }
    }

    /// The index that follows `index`; the first follows the last.
    fn index_after(&self, index: usize) -> usize {
        (index + 1) % self.addresses.as_slice().len()
    }

    /// The IP addresses of one address of the list, in the resolver's order.
    async fn resolve(&mut self, index: usize) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = self.addresses.as_slice()[index].parse()?;
        let mut found = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => self.look_up(index, host, port).await?,
        };
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"));
        }
        if let Some(bind) = self.options.as_ref().and_then(|options| options.bind_address()) {
            found.retain(|address| address.is_ipv4() == bind.is_ipv4());
            if found.is_empty() {
                let text = format!("the name has no addresses that can be dialed from {bind}");
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
            }
        }
        Ok(found)
    }

    /// Asks the system's resolver, with at most one call at a time for each address of the list.
    async fn look_up(&mut self, index: usize, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        if self.lookups.len() <= index {
            self.lookups.resize_with(index + 1, BlockingCall::default);
        }
        self.lookups[index].run(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
    }
}

impl Dial for TcpDialer {
    type Stream = TcpStream;

    async fn dial(&mut self) -> io::Result<TcpStream> {
        let index = self.next;
        if self.addresses.as_slice().is_empty() {
            return Err(no_addresses().into());
        }
        // Set before the first await, as this dial can be dropped: unless it succeeds, the next address follows.
        self.dialed = index;
        self.reached = None;
        self.next = self.index_after(index);
        let options = self.options.as_deref().copied().unwrap_or_default();
        let found = self.resolve(index).await?;
        let found = match &found[..] {
            [_] => found,
            _ => self.history.get_or_insert_default().sort(found),
        };
        if let (Some(history), Some(first)) = (&mut self.history, found.first()) {
            // Undone below, unless the dial timeout drops this dial.
            history.mark_bad(*first);
        }
        let outcome = race(found, |address| connect(address, options)).await;
        if outcome.is_err() {
            self.history = None;
        }
        let (good, stream) = outcome.map_err(all_failed)?;
        if let Some(history) = &mut self.history {
            history.mark_good(good);
        }
        self.reached = Some(index);
        self.next = index;
        Ok(stream)
    }

    fn check(&self) -> Result<(), Error> {
        if self.addresses.as_slice().is_empty() {
            return Err(no_addresses());
        }
        let bind = self.options.as_ref().and_then(|options| options.bind_address());
        self.addresses.as_slice().iter().try_for_each(|address| {
            let (host, _) = address.parse()?;
            match (bind, host.parse::<IpAddr>()) {
                (Some(bind), Ok(peer)) if bind.is_ipv4() != peer.is_ipv4() => Err(Error::InvalidConfig(format!(
                    "local_address {bind}: expected one of the IP version of the address {address}"
                ))),
                _ => Ok(()),
            }
        })
    }

    fn take_socket_options(&mut self, options: &SocketOptions) -> bool {
        self.options = Some(Box::new(*options));
        true
    }

    fn addresses(&self) -> &[Address] {
        self.addresses.as_slice()
    }

    fn dialed_address(&self) -> Option<&Address> {
        self.addresses.as_slice().get(self.dialed)
    }

    fn dial_failed(&mut self) {
        let Some(index) = self.reached.take() else { return };
        self.next = self.index_after(index);
        if let Some(history) = &mut self.history {
            if let Some(good) = history.good {
                history.mark_bad(good);
            }
        }
    }

    /// Asks the kernel, with one or two system calls. On the BSDs, unread bytes may hide the close.
    fn is_closed(stream: &TcpStream) -> bool {
        is_closed_now(stream)
    }
}

/// The error of an empty list.
fn no_addresses() -> Error {
    Error::InvalidConfig("addresses []: expected at least one".into())
}

/// Connects to one IP address, with the socket options set before.
async fn connect(address: SocketAddr, options: SocketOptions) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    options.apply(&socket)?;
    if let Some(bind) = options.bind_address() {
        choose_port_at_connect(&socket);
        socket.bind((bind, 0).into()).map_err(|error| cannot_bind(bind, &error))?;
    }
    reject_self_connect(socket.connect(address).await?, address)
}

/// Makes bind(2) take no port (`IP_BIND_ADDRESS_NO_PORT` of ip(7)).
///
/// A port that bind(2) takes is taken for every destination. One that connect(2) takes is free for other destinations.
#[cfg(all(target_os = "linux", not(perconn_portable)))]
fn choose_port_at_connect(socket: &TcpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};

    // A kernel before Linux 4.2 does not know the option. There, bind(2) takes the port.
    let _ = setsockopt(socket, IpBindAddressNoPort, &true);
}

/// Does nothing: here, bind(2) takes the port.
#[cfg(not(all(target_os = "linux", not(perconn_portable))))]
fn choose_port_at_connect(_socket: &TcpSocket) {}

/// Names the local address in the error of bind(2).
fn cannot_bind(bind: IpAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("local address {bind}: {error}"))
}

/// Rejects a stream that is connected to itself.
///
/// If nothing listens on a port of the ephemeral range of this machine, a dial to it can get that same port as its
/// local port and connect to itself (the simultaneous open of RFC 9293, 3.5). A client that redials for hours gets
/// there, and then keeps its server from binding the port. The socket is reset, so that the port is free at once.
fn reject_self_connect(stream: TcpStream, dialed: SocketAddr) -> io::Result<TcpStream> {
    let local = stream.local_addr()?;
    // The unspecified address means this machine.
    let is_same_host = local.ip() == dialed.ip() || dialed.ip().is_unspecified();
    if is_same_host && local.port() == dialed.port() {
        // Without it, the closed socket would keep the port for a minute more (TIME_WAIT).
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "nothing listens there: the socket connected to itself",
        ));
    }
    Ok(stream)
}

/// One error for several attempts: the kind of the last one and the texts of all.
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
    async fn socket_that_connected_to_itself_is_rejected() {
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
            let error = reject_self_connect(stream, dialed).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            // The server can have its port at once, even without SO_REUSEADDR.
            TcpSocket::new_v4().unwrap().bind(own).unwrap();
        }
    }

    #[cfg(all(target_os = "linux", not(perconn_portable)))]
    #[test]
    fn bind_takes_no_port() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _context = runtime.enter();
        for (socket, address) in [(TcpSocket::new_v4(), "127.0.0.1:0"), (TcpSocket::new_v6(), "[::1]:0")] {
            let Ok(socket) = socket else { continue };
            choose_port_at_connect(&socket);
            if socket.bind(address.parse().unwrap()).is_ok() {
                assert_eq!(socket.local_addr().unwrap().port(), 0, "{address}");
            }
        }
    }

    #[tokio::test]
    async fn literal_address_needs_no_thread() {
        let mut dialer = TcpDialer::with_addresses(["[2001:db8::1]:1", "192.0.2.1:1", "localhost:1"]);
        for (index, expected) in ["[2001:db8::1]:1", "192.0.2.1:1"].into_iter().enumerate() {
            let found = dialer.resolve(index).await.unwrap();
            assert_eq!((found, dialer.lookups.len()), (vec![expected.parse().unwrap()], 0));
        }
        dialer.resolve(2).await.unwrap();
        assert_eq!(dialer.lookups.len(), 3);
    }

    #[test]
    fn error_of_one_address_is_the_kernels_own() {
        let error = all_failed(vec![("127.0.0.1:9".parse().unwrap(), io::Error::from_raw_os_error(111))]);
        assert_eq!(error.raw_os_error(), Some(111));
    }
}

//! The default dialer: TCP.
//!
//! From dial to dial it remembers which address of its list comes next, and which IP addresses of a name answered or
//! failed ([`AddressHistory`]). Next: [`Resolver`], which finds the IP addresses of one name, and [`race`], which connects to
//! them.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::Dial;
use super::address_history::AddressHistory;
use super::address_list::AddressList;
use super::happy_eyeballs::race;
use super::resolver::Resolver;
use crate::link::is_closed_now;
use crate::{Address, Error, SocketOptions};

/// Dials a TCP address: the default of [`Conn::builder`](crate::Conn::builder).
///
/// The name is resolved again at each dial, by the system or by your own [`resolver`](Self::resolver). If it has several IP
/// addresses, they are tried by Happy Eyeballs (RFC 8305). The IP versions alternate. The next attempt starts 250 ms after the
/// last one, or at once when that fails. The first address that answers wins. The winner of the last dial is tried first. An
/// address that led to the dial timeout or to a failed set-up is tried last, and so is one whose link ended too soon.
///
/// A system resolver that does not answer holds at most one thread for each address of the dialer: a dial whose name is still
/// being looked up for an earlier dial waits for that look-up.
///
/// The [`SocketOptions`] are set on each socket before it connects.
#[derive(Clone, Debug)]
pub struct TcpDialer {
    /// The addresses of the service. May be malformed until [`Dial::check`] has passed.
    addresses: AddressList,
    /// Resolves their names.
    resolver: Resolver,
    /// How earlier dials ended. `None` until a name has several IP addresses.
    history: Option<Box<AddressHistory>>,
    /// `None` if none is set, as for most connections.
    options: Option<Box<SocketOptions>>,
}

impl TcpDialer {
    /// A dialer for this address. The address is checked when the connection is built.
    pub fn new(address: impl Into<Address>) -> Self {
        Self::of(AddressList::one(address.into()))
    }

    /// A dialer for several addresses of one service.
    ///
    /// Each dial is to one of them, beginning with the first. After a failed dial, a failed set-up on top of it, or a
    /// link that ended before [`stable_after`](crate::Builder::stable_after), the next dial is to the next address in
    /// the list; the first follows the last. After a break of a stable link, its address is dialed again. The addresses
    /// are checked when the connection is built. An empty list is not valid.
    #[doc(alias("failover", "round_robin", "cluster"))]
    pub fn with_addresses<A: Into<Address>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self::of(AddressList::several(addresses))
    }

    /// Resolves names by a function of your own instead of the system's resolver: DNS over TLS, SRV records, a service
    /// registry, names of tests.
    ///
    /// Each dial calls it with the host and the port of its address, and the dial timeout limits it. It returns the addresses to
    /// dial, in your order of preference. They are tried by Happy Eyeballs like those of the system's resolver. A literal IP
    /// address is not resolved, so the function is not called for it.
    ///
    /// - **Ports.** Each address has its own, so the port of the name may be replaced. Port 0 stands for the port of the name.
    /// - **SRV.** Return the hosts of the record with their ports. A TLS certificate still has to be for the name that was
    ///   dialed, not for the host that the record leads to (RFC 6125). The attempts start 250 ms apart, so a host of the
    ///   second priority can win if one of the first is slow: leave it out while you want only the first.
    /// - **Errors.** An error of the function fails the dial, and the next dial asks again. So do a panic, an answer without
    ///   addresses ([`NotFound`](io::ErrorKind::NotFound)), and one with more than 1,000 of them
    ///   ([`InvalidData`](io::ErrorKind::InvalidData)). An address that is there twice counts once. A name that can
    ///   never be found may end the connection: return [`fatal`](crate::fatal).
    ///
    /// # Cancel safety
    ///
    /// The future is dropped with its dial, for example when the dial timeout passes. It runs on a thread of the runtime, so it must
    /// not block (that of a `blocking::Conn`, too: all blocking connections share it). A blocking call on a thread of its own goes on
    /// after the drop: limit how many there are.
    ///
    /// ```
    /// use perconn::{Conn, TcpDialer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let found = server.local_addr()?;
    /// let dialer = TcpDialer::new("db.internal:5432").resolver(move |host, port| async move {
    ///     println!("where is {host}:{port}?"); // ask a registry
    ///     Ok(vec![found])
    /// });
    /// let conn = Conn::builder("db.internal:5432").dialer(dialer).connect().await?;
    /// assert_eq!(conn.peer_addr()?, found);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("dns", "dns_resolver", "resolve", "lookup_host", "hickory", "SRV", "service_discovery"))]
    pub fn resolver<F, Fut>(mut self, resolve: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        self.resolver = Resolver::own(resolve);
        self
    }

    /// Replaces the addresses. The resolver stays.
    pub(crate) fn replace_addresses<A: Into<Address>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.addresses = AddressList::several(addresses);
        self
    }

    /// Replaces the resolver.
    #[cfg(feature = "proxy")]
    pub(super) fn replace_resolver(mut self, resolver: Resolver) -> Self {
        self.resolver = resolver;
        self
    }

    /// The addresses and their resolver, for a dialer that reaches them in another way.
    #[cfg(feature = "proxy")]
    pub(super) fn into_parts(self) -> (AddressList, Resolver) {
        (self.addresses, self.resolver)
    }

    /// A dialer that begins with the first address.
    fn of(addresses: AddressList) -> Self {
        Self { addresses, resolver: Resolver::default(), history: None, options: None }
    }

    /// The IP addresses that an address leads to, in the resolver's order, without those that the options rule out.
    async fn resolve(&mut self, index: usize, address: &Address) -> io::Result<Vec<SocketAddr>> {
        let mut found = self.resolver.resolve(index, address).await?;
        if let Some(bind) = self.options.as_ref().and_then(|options| options.bind_address()) {
            found.retain(|address| address.is_ipv4() == bind.is_ipv4());
            if found.is_empty() {
                let text = format!("the name has no addresses that can be dialed from {bind}");
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
            }
        }
        Ok(found)
    }
}

impl Dial for TcpDialer {
    type Stream = TcpStream;

    async fn dial(&mut self) -> io::Result<TcpStream> {
        self.resolver.begin();
        let (index, address) = self.addresses.begin()?;
        let options = self.options.as_deref().copied().unwrap_or_default();
        let found = self.resolve(index, &address).await?;
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
        self.addresses.reached();
        Ok(stream)
    }

    fn check(&self) -> Result<(), Error> {
        let bind = self.options.as_ref().and_then(|options| options.bind_address());
        self.addresses.check(|address| {
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
        self.addresses.dialed()
    }

    fn unfinished_step(&self) -> Option<String> {
        self.resolver.is_unfinished().then(|| "name resolution".into())
    }

    fn dial_failed(&mut self) {
        if self.addresses.failed() {
            if let Some(history) = &mut self.history {
                history.mark_good_as_bad();
            }
        }
    }

    /// Asks the kernel, with one or two system calls. On the BSDs, unread bytes may hide the close.
    fn is_closed(stream: &TcpStream) -> bool {
        is_closed_now(stream)
    }
}

/// Connects to one IP address, with the socket options set before.
async fn connect(address: SocketAddr, options: SocketOptions) -> io::Result<TcpStream> {
    let socket = options.open(address)?;
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

/// One error for several attempts: the kind of the last one, and the texts of the first ones and the last.
pub(super) fn all_failed(mut failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
    let Some((address, last)) = failures.pop() else { return io::ErrorKind::NotFound.into() };
    if failures.is_empty() {
        return last;
    }
    let mut text = String::from("no address answered: ");
    for (address, error) in failures.iter().take(NAMED_FAILURES) {
        let _ = write!(text, "{address}: {error}; ");
    }
    if let Some(others @ 1..) = failures.len().checked_sub(NAMED_FAILURES) {
        let _ = write!(text, "{others} others; ");
    }
    let _ = write!(text, "{address}: {last}");
    io::Error::new(last.kind(), text)
}

/// How many failures before the last one an error names.
const NAMED_FAILURES: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_several_addresses_names_each_with_its_cause() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let failures = vec![("[::1]:9".parse().unwrap(), refused()), ("127.0.0.1:9".parse().unwrap(), refused())];
        let error = all_failed(failures);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = "no address answered: [::1]:9: connection refused; 127.0.0.1:9: connection refused";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn error_of_very_many_addresses_counts_those_that_it_does_not_name() {
        let failures = (1..=1000)
            .map(|port| (SocketAddr::from(([192, 0, 2, 1], port)), io::Error::from(io::ErrorKind::ConnectionRefused)));
        let text = all_failed(failures.collect()).to_string();
        let expected = "192.0.2.1:15: connection refused; 984 others; 192.0.2.1:1000: connection refused";
        assert!(text.ends_with(expected), "{text}");
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

    #[test]
    fn error_of_one_address_is_the_kernels_own() {
        let error = all_failed(vec![("127.0.0.1:9".parse().unwrap(), io::Error::from_raw_os_error(111))]);
        assert_eq!(error.raw_os_error(), Some(111));
    }
}

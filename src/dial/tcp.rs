//! The default dialer.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};

use super::Dial;
use crate::link::is_closed_now;
use crate::{Address, Error};

/// Dials a TCP address: the default of [`Conn::builder`](crate::Conn::builder).
///
/// The name is resolved anew at each dial, and its addresses are tried one after the other until one answers. An
/// address on which a dial ran into the dial timeout is tried last the next time, so that a black hole hides the
/// addresses after it for one dial only.
#[derive(Clone, Debug)]
pub struct TcpDialer {
    address: Address,
    /// The address that was being tried when a dial was dropped.
    hung: Option<SocketAddr>,
}

impl TcpDialer {
    /// A dialer for this address; it is checked when the connection is built.
    pub fn new(address: impl Into<Address>) -> Self {
        Self { address: address.into(), hung: None }
    }
}

impl Dial for TcpDialer {
    type Stream = TcpStream;

    async fn dial(&mut self) -> io::Result<TcpStream> {
        let (host, port) = self.address.parse()?;
        let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
        addresses.sort_by_key(|address| Some(*address) == self.hung);
        let mut failures = Vec::new();
        for address in addresses {
            self.hung = Some(address);
            let outcome = TcpStream::connect(address).await.and_then(|stream| refuse_self(stream, address));
            self.hung = None;
            match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push((address, error)),
            }
        }
        Err(all_failed(failures))
    }

    fn check(&self) -> Result<(), Error> {
        self.address.parse().map(drop)
    }

    /// Asks the kernel: one system call. Unread bytes do not hide the close on Linux; elsewhere they do.
    fn is_closed(stream: &TcpStream) -> bool {
        is_closed_now(stream)
    }
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
    let Some((address, last)) = failures.pop() else {
        return io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    };
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
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        drop(socket);
        for dialed in [own, SocketAddr::from(([0, 0, 0, 0], own.port()))] {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
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

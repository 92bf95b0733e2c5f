//! SOCKS5 (RFC 1928), with user and password (RFC 1929).

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::answer::{not_the_protocol, read, read_into};
use super::settings::Credentials;
use super::target::Target;

/// The version of the protocol.
const VERSION: u8 = 5;
/// The version of the exchange of user and password.
const PASSWORD_VERSION: u8 = 1;
/// The method without authentication.
const NO_AUTHENTICATION: u8 = 0;
/// The method with user and password.
const PASSWORD: u8 = 2;
/// The answer to methods of which none is accepted.
const NO_METHOD: u8 = 0xFF;
/// The request of a tunnel.
const CONNECT: u8 = 1;
/// The types of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Opens a tunnel on a fresh connection to the proxy.
pub(super) async fn open<S>(stream: &mut S, target: &Target, credentials: Option<&Credentials>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    authenticate(stream, credentials).await?;
    send(stream, &request(target)).await?;
    let [version, reply] = read(stream).await?;
    if version != VERSION {
        return Err(not_socks5(stream, &[version, reply]));
    }
    if reply != 0 {
        return Err(refusal(reply));
    }
    // The address that the proxy has bound. What it says is of no use here.
    let [reserved, address_type] = read(stream).await?;
    let length = match address_type {
        IPV4 => 4,
        IPV6 => 16,
        NAME => read::<_, 1>(stream).await?[0].into(),
        _ => return Err(not_socks5(stream, &[version, reply, reserved, address_type])),
    };
    let mut address_and_port = [0; u8::MAX as usize + 2];
    read_into(stream, &mut address_and_port[..length + 2]).await
}

/// Agrees on a method with the proxy, and sends it the credentials if it wants them.
async fn authenticate<S>(stream: &mut S, credentials: Option<&Credentials>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let methods: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, PASSWORD],
        None => &[VERSION, 1, NO_AUTHENTICATION],
    };
    send(stream, methods).await?;
    let denied = |text| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    match (read(stream).await?, credentials) {
        ([VERSION, NO_AUTHENTICATION], _) => Ok(()),
        ([VERSION, PASSWORD], Some(credentials)) => {
            send(stream, &login(credentials)).await?;
            // Some proxies answer with the version of SOCKS.
            match read(stream).await? {
                [PASSWORD_VERSION | VERSION, 0] => Ok(()),
                [PASSWORD_VERSION | VERSION, status] => {
                    denied(format!("it refuses the user or the password (SOCKS5 status {status})"))
                }
                other => Err(not_socks5(stream, &other)),
            }
        }
        ([VERSION, NO_METHOD], None) => {
            denied("it accepts no client without credentials, and there are none (SOCKS5 method 255)".into())
        }
        ([VERSION, NO_METHOD], Some(_)) => {
            denied("it accepts this client neither with user and password nor without (SOCKS5 method 255)".into())
        }
        ([VERSION, method], _) => {
            let text = format!("it has chosen SOCKS5 method {method}, which was not offered");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
        (other, _) => Err(not_socks5(stream, &other)),
    }
}

/// The message with user and password. Their lengths were checked when the connection was built.
fn login(Credentials { user, password }: &Credentials) -> Vec<u8> {
    let mut message = vec![PASSWORD_VERSION];
    for value in [user, password] {
        message.extend(u8::try_from(value.len()));
        message.extend_from_slice(value.as_bytes());
    }
    message
}

/// The request of a tunnel. The length of the name was checked when the connection was built.
fn request(target: &Target) -> Vec<u8> {
    let mut message = vec![VERSION, CONNECT, 0];
    let port = match target {
        Target::Name(host, port) => {
            message.push(NAME);
            message.extend(u8::try_from(host.len()));
            message.extend_from_slice(host.as_bytes());
            *port
        }
        Target::Ip(SocketAddr::V4(address)) => {
            message.push(IPV4);
            message.extend(address.ip().octets());
            address.port()
        }
        Target::Ip(SocketAddr::V6(address)) => {
            message.push(IPV6);
            message.extend(address.ip().octets());
            address.port()
        }
    };
    message.extend(port.to_be_bytes());
    message
}

/// The error of a reply that is no success (RFC 1928, section 6).
fn refusal(reply: u8) -> io::Error {
    use io::ErrorKind;

    let (kind, reason) = match reply {
        1 => (ErrorKind::Other, "general failure"),
        2 => (ErrorKind::PermissionDenied, "its rules do not allow the connection"),
        3 => (ErrorKind::NetworkUnreachable, "network unreachable"),
        4 => (ErrorKind::HostUnreachable, "host unreachable"),
        5 => (ErrorKind::ConnectionRefused, "connection refused by the target"),
        6 => (ErrorKind::TimedOut, "TTL expired"),
        7 => (ErrorKind::Unsupported, "command not supported"),
        8 => (ErrorKind::Unsupported, "type of address not supported"),
        _ => (ErrorKind::Other, "unknown failure"),
    };
    io::Error::new(kind, format!("{reason} (SOCKS5 reply {reply})"))
}

/// The error of what is no answer of a SOCKS5 proxy.
fn not_socks5<S: AsyncRead + Unpin>(stream: &mut S, begin: &[u8]) -> io::Error {
    not_the_protocol(stream, begin, "an answer of SOCKS5")
}

/// Sends one message.
async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) -> io::Result<()> {
    stream.write_all(message).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_names_each_type_of_address() {
        let name = request(&Target::Name("db.example".into(), 5432));
        assert_eq!(name, b"\x05\x01\x00\x03\x0adb.example\x15\x38");
        let v4 = request(&Target::Ip("192.0.2.1:80".parse().unwrap()));
        assert_eq!(v4, [5, 1, 0, 1, 192, 0, 2, 1, 0, 80]);
        let v6 = request(&Target::Ip("[2001:db8::1]:443".parse().unwrap()));
        assert_eq!(v6, [5, 1, 0, 4, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0xbb]);
    }
}

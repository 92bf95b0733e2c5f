//! What a [`Listen`] can be made from, and how it is named in errors.
//!
//! Next: [`super::Listen::open`], which listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixListener;

use super::{Listen, Source};

impl From<&str> for Listen {
    fn from(address: &str) -> Self {
        Self::new(Source::Address(address.to_owned()))
    }
}

impl From<String> for Listen {
    fn from(address: String) -> Self {
        Self::new(Source::Address(address))
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::new(Source::Address(address.to_string()))
    }
}

impl From<(IpAddr, u16)> for Listen {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Self {
        Self::new(Source::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listen {
    fn from(listener: UnixListener) -> Self {
        Self::new(Source::Unix(listener))
    }
}

/// One acceptor listens on all of them, at least one. Its limits hold for all clients together.
///
/// ```
/// use std::net::Ipv4Addr;
/// use perconn::acceptor::{Acceptor, Listen};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::acceptor::Error> {
/// let both = vec![Listen::from("127.0.0.1:0"), Listen::from("127.0.0.1:0")];
/// let acceptor = Acceptor::builder(both).handler(async |_stream, _peer| Ok(())).build()?;
/// assert_eq!(acceptor.local_addrs().len(), 2);
/// # Ok(())
/// # }
/// ```
impl From<Vec<Self>> for Listen {
    fn from(several: Vec<Self>) -> Self {
        Self::new(Source::Several(several))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Several(several) => {
                for (at, listen) in several.iter().enumerate() {
                    write!(f, "{}{listen}", if at > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Source::Address(address) => f.write_str(address),
            Source::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a listener of the program"),
            },
            #[cfg(unix)]
            Source::Path(path, _) => path.display().fmt(f),
            #[cfg(unix)]
            Source::Unix(listener) => {
                let address = listener.local_addr().ok();
                match address.as_ref().and_then(|address| address.as_pathname()) {
                    Some(path) => path.display().fmt(f),
                    None => f.write_str("a listener of the program"),
                }
            }
        }
    }
}

#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "acceptor")]
#[cfg_attr(docsrs, doc(cfg(feature = "acceptor")))]
pub mod acceptor;
mod actor;
mod address;
mod backoff;
#[cfg(feature = "blocking")]
#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
pub mod blocking;
mod builder;
#[cfg(feature = "codec")]
#[cfg_attr(docsrs, doc(cfg(feature = "codec")))]
pub mod codec;
mod conn;
mod dial;
mod error;
mod event;
mod fault;
mod hooks;
mod job;
mod ledger;
mod link;
mod meter;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "pool")]
#[cfg_attr(docsrs, doc(cfg(feature = "pool")))]
pub mod pool;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub mod postgres;
#[cfg(feature = "session")]
mod session;
mod socket_options;
mod when_down;

pub use self::address::Address;
pub use self::builder::Builder;
pub use self::conn::{Conn, ReadHalf, ReuniteError, SharedConn, WriteHalf};
#[cfg(unix)]
pub use self::dial::UnixDialer;
pub use self::dial::{AndThen, Dial, TcpDialer, dial_fn};
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use self::dial::{Tls, TlsDialer};
pub use self::error::{Error, Op};
pub use self::event::{Event, Status};
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub use self::session::{Session, Sessions};
pub use self::socket_options::{Keepalive, SocketOptions};
pub use self::when_down::WhenDown;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use tokio_rustls;

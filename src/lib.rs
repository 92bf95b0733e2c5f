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
mod byte_count;
mod call_thread;
mod causes;
#[cfg(feature = "codec")]
#[cfg_attr(docsrs, doc(cfg(feature = "codec")))]
pub mod codec;
mod conn;
mod conn_state;
mod dial;
mod dial_limit;
mod error;
mod event;
mod fault;
mod hooks;
mod io_error;
mod link;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
#[cfg(feature = "outbox")]
#[cfg_attr(docsrs, doc(cfg(feature = "outbox")))]
pub mod outbox;
mod panic_as_error;
mod panics;
#[cfg(feature = "tls")]
mod pem;
mod per_process;
mod poll_once;
#[cfg(feature = "pool")]
#[cfg_attr(docsrs, doc(cfg(feature = "pool")))]
pub mod pool;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub mod postgres;
#[cfg(feature = "proxy-protocol")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
pub mod proxy_protocol;
mod retry;
#[cfg(any(feature = "acceptor", feature = "pool"))]
mod runtime;
#[cfg(feature = "session")]
mod session;
mod socket_options;
mod stats;
mod status;
mod sync;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
mod waiters;
mod when_down;

pub use self::address::Address;
pub use self::builder::Builder;
pub use self::conn::{Conn, ReadHalf, ReuniteError, SharedConn, WriteHalf};
#[cfg(unix)]
pub use self::dial::UnixDialer;
pub use self::dial::{AndThen, Dial, TcpDialer, dial_fn};
#[cfg(feature = "proxy")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
pub use self::dial::{Proxy, ProxyDialer};
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use self::dial::{Tls, TlsDialer, TlsHandle};
pub use self::dial_limit::DialLimit;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use self::error::RefusedCertificate;
pub use self::error::{Error, Op};
pub use self::event::Event;
pub use self::retry::{Retry, fatal};
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub use self::session::{Session, Sessions};
pub use self::socket_options::{Keepalive, SocketOptions};
pub use self::stats::{Breaks, ConnStats, StatsWatch};
pub use self::status::{Status, StatusWatch};
pub use self::when_down::WhenDown;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use tokio_rustls;

/// The example of the page runs with the doc tests.
#[cfg(all(doctest, feature = "outbox"))]
#[doc = include_str!("../docs/delivery.md")]
struct DeliveryPage;

/// The same for this page.
#[cfg(doctest)]
#[doc = include_str!("../docs/fleet.md")]
struct FleetPage;

//! A PostgreSQL `LISTEN`/`NOTIFY` listener that survives the server.
//!
//! A [`Listener`] listens to channels on one connection. When that is lost, by whatever error, another is made in the
//! background, listens to all channels again, and the reader is told in between: notifications that were sent meanwhile did
//! not reach it, and what they tell of has to be looked up.
//!
//! ```no_run
//! use perconn::postgres::{Listener, Message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut listener = Listener::connect("postgres://agent@db.example/orders").await?;
//! listener.listen("new order").await?; // the server has acknowledged it
//! loop {
//!     match listener.recv().await? {
//!         Message::Notification(notification) => println!("{}: {}", notification.channel(), notification.payload()),
//!         Message::Lost { cause, .. } => println!("the server is away: {}", cause.with_causes()),
//!         Message::Resynced { .. } => println!("listening again; what was missed?"), // SELECT it now
//!         _ => {}
//!     }
//! }
//! # }
//! ```
//!
//! It is also a [`Stream`](futures_core::Stream). Other tasks use a [`ListenerHandle`].
//!
//! The `SELECT` needs a connection of its own, as any query does: by `tokio-postgres` (a dependency of yours, with its feature
//! `runtime`; the re-export here has no `connect`), or by what the rest of the program uses.
//!
//! # What a reader is told
//!
//! All that was received on one connection, then [`Lost`](Message::Lost), then [`Resynced`](Message::Resynced), then what
//! comes on the next one. The markers never overtake a notification, and each lost connection has its own two. They are not
//! part of the [queue](ListenerBuilder::queue)'s size. If a reader leaves 32 losses untaken, the next attempt waits for it.
//!
//! The first connection has no markers: what there is to look up at the start, is looked up after `listen` has returned.
//!
//! When `Resynced` is told, all channels are in force: they are taken up by one query, which is one transaction. What is
//! committed after it was told, arrives; so look up then, and not before, what may have been missed.
//!
//! # What is a loss
//!
//! Any error of the connection: a reset, an end, a timeout, a shutdown of the server or of the session
//! (`pg_terminate_backend`), an alert of TLS, an answer that makes no sense. And silence: if nothing comes in for the time of the
//! [`heartbeat`](ListenerBuilder::heartbeat), the server is asked; if then nothing comes in for
//! [`ping_timeout`](ListenerBuilder::ping_timeout), the connection is given up. What this side sends is no sign of life, and
//! what it does not read, as the queue is full, is no silence.
//!
//! # How it comes back
//!
//! As a [`Conn`](crate::Conn) does: jittered delays that grow and start over after a stable connection. They are shorter than
//! those, and grow [later](ListenerBuilder::retry_min), as all that is notified meanwhile is missed. The login and the listening
//! are a part of each attempt and of its time limit. A wrong password, a server that is starting up or has no place
//! left, a standby that refuses to listen: each is an attempt that failed, told to
//! [`on_event`](ListenerBuilder::on_event) with the server's words, and after the last host of the configuration the delay follows.
//! `connect()` returns the first attempt's error; what fails later is tried again until
//! [`max_retries`](ListenerBuilder::max_retries) are used up.
//!
//! # What is honoured of the configuration
//!
//! Several hosts are tried in order within one attempt, each for an equal part of the time that is left; the first one is that of the
//! last connection, or the one after the host in whose turn the time ran out. `host` (a name, an address, a folder with a Unix
//! socket), `hostaddr`, `port`, `connect_timeout`, `keepalives*`, `tcp_user_timeout`, `target_session_attrs`, `sslmode`,
//! `sslnegotiation`, and what concerns the session. `load_balance_hosts=random` shuffles the hosts anew at each attempt; the
//! addresses of one name are tried as a [`TcpDialer`](crate::TcpDialer) does. TLS is that of this crate
//! ([`tls`](ListenerBuilder::tls), feature `tls`), so that there is no channel binding: `channel_binding=require` is an error.
//!
//! # Limits
//!
//! - A notification that is committed while there is no connection is lost. So says PostgreSQL; `Resynced` tells when to look.
//! - The channels must have been acknowledged once to be a part of the next connection's beginning. One whose first `LISTEN` is
//!   still on the way when the connection is lost is listened to soon after `Resynced`, and its `listen` returns then.
//! - A task that waits in [`listen`](Listener::listen) does not read. With [`WhenFull::Wait`] and a full queue, the answer lies
//!   behind notifications that nobody takes, and the call ends with [`Error::Backlog`]: let another task call it.
//! - While a queue is full and waits, the end of the connection is not seen, either; it is told after what was received. But if
//!   the reader is more than a second behind with what has arrived, a question (`listen`, `ping` and the like) is sent without
//!   waiting for it; and if the server has gone by then, what its machine has not sent yet is lost with the connection.
//! - With [`WhenFull::Wait`] and more arriving than the reader takes, for good, each question takes a second to be sent.
//! - It speaks to PostgreSQL itself. A pooler in transaction mode, such as PgBouncer, does not keep a session's `LISTEN`.

pub use tokio_postgres;

pub use self::builder::ListenerBuilder;
pub use self::error::Error;
pub use self::event::Event;
pub use self::handle::ListenerHandle;
pub use self::listener::Listener;
pub use self::listener_conn::ListenerConn;
pub use self::message::{Message, Notification, WhenFull};
pub use self::server_config::ServerConfig;

mod attempts;
mod builder;
mod channels;
mod end;
mod error;
mod event;
mod frames;
mod handle;
mod heartbeat;
mod hooks;
mod hosts;
mod link;
mod listener;
mod listener_conn;
mod login;
mod message;
mod outbox;
mod questions;
mod server_config;
mod shared;
mod start;
mod task;
#[cfg(feature = "tls")]
mod tls;
mod wire;

//! A PostgreSQL `LISTEN`/`NOTIFY` listener that survives the loss of its server.
//!
//! A [`Listener`] listens to channels on one connection. When that connection is lost, by any error, a background
//! task makes another one and listens to all channels again. The reader receives markers in between: notifications
//! sent during the outage did not reach it, and what they would have reported must be looked up in the database.
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
//! A listener is also a [`Stream`](futures_core::Stream). Other tasks use a [`ListenerHandle`].
//!
//! The `SELECT` needs a connection of its own, as any query does. Open it with `tokio-postgres` (your own dependency,
//! with its feature `runtime`; the re-export here has no `connect`), or with whatever the rest of the program uses.
//!
//! # What a reader receives
//!
//! Everything received on one connection, then [`Lost`](Message::Lost), then [`Resynced`](Message::Resynced), then
//! everything received on the next connection. The markers never overtake a notification, and each lost connection
//! has its own two. They do not count towards the size of the [queue](ListenerBuilder::queue). If the reader leaves
//! the markers of 32 losses unread, the next attempt waits for the reader.
//!
//! The first connection has no markers. If a program has to look something up at the start, it does so after `listen`
//! has returned. Or it has [`Message::Listening`] in the queue for that, by
//! [`report_listening`](ListenerBuilder::report_listening), and looks things up in one place.
//!
//! When `Resynced` arrives, all channels are in force. Up to 1,000 channels come into force together, by one query, which is
//! one transaction. Everything committed after `Resynced` arrives. So look up what may have been missed when you receive
//! `Resynced`, not earlier.
//!
//! Several tasks that want different channels have a [`Subscription`] each.
//!
//! # What counts as a loss
//!
//! Any error of the connection: a reset, an end of stream, a timeout, a shutdown of the server or of the session
//! (`pg_terminate_backend`), a TLS alert, an answer that violates the protocol.
//!
//! Silence counts too. If nothing arrives for the [`heartbeat`](ListenerBuilder::heartbeat) interval, the listener
//! sends an empty query. If then nothing arrives within [`ping_timeout`](ListenerBuilder::ping_timeout), it drops the
//! connection. Bytes that this side sends are no sign of life. Silence is not counted while this side does not read
//! because its queue is full, or while the server works on a [statement](Listener::simple_query) of the program.
//!
//! A server that crashes, or is shut down at once, ends its sessions by a warning. That is the cause then, with its
//! [code](Error::code).
//!
//! # Reconnection
//!
//! The listener reconnects as a [`Conn`](crate::Conn) does: with jittered delays that grow, and that start over after
//! a stable connection. The delays are shorter than those of a `Conn` and start to grow
//! [later](ListenerBuilder::retry_min), because everything notified in the meantime is missed.
//!
//! The login and the `LISTEN`s are part of each attempt and of its time limit. A wrong password, a server that is
//! starting up or has no free session, a standby that refuses `LISTEN`: each of them is a failed attempt. Failed
//! attempts are reported to [`on_event`](ListenerBuilder::on_event) with the server's message. The delay follows
//! after the last host of the configuration. `connect()` returns the error of the first attempt. Later failures are
//! retried until [`max_retries`](ListenerBuilder::max_retries) are used up.
//!
//! A password that the server refuses, and the like, is [hopeless](Error::is_hopeless): the delays grow to a
//! [longer limit](ListenerBuilder::hopeless_retry_max). For passwords that expire, a
//! [function](ListenerBuilder::config_for_each_attempt) gives the configuration of each attempt.
//!
//! # Which settings of the configuration apply
//!
//! One attempt tries several hosts in order, each for an equal part of the remaining time. It begins with the host of
//! the last connection, or with the host after the one that was being tried when the time ran out.
//!
//! These settings apply: `host` (a name, an address, or the folder of a Unix socket), `hostaddr`, `port`,
//! `connect_timeout`, `keepalives*`, `tcp_user_timeout`, `target_session_attrs`, `sslmode`, `sslnegotiation`,
//! `channel_binding`, and the settings of the session. A connection string may say more, as for libpq: [`ServerConfig`]
//! has the table. Without an `application_name`, it is `perconn`. The `connect_timeout` is for each host, up to the end of
//! its login. `load_balance_hosts=random` shuffles the hosts for each attempt. A [`TcpDialer`](crate::TcpDialer) tries the
//! addresses of one name. TLS is the TLS of this crate ([`tls`](ListenerBuilder::tls), feature `tls`).
//!
//! Over TLS, a login with a password is bound to the server's certificate, if the server offers that
//! (SCRAM-SHA-256-PLUS): through a man in the middle with another certificate, it fails. With
//! `channel_binding=require`, a login that is not bound fails, too; `disable` binds none. A certificate whose signature is
//! Ed25519 or RSASSA-PSS cannot be bound to.
//!
//! # Limits
//!
//! - A notification that is committed while there is no connection is lost. PostgreSQL keeps none for absent listeners;
//!   `Resynced` marks the time to look.
//! - Only channels that the server has acknowledged once are part of the login of the next connection. If the connection is
//!   lost before the first `LISTEN` of a channel is acknowledged, the channel is listened to soon after `Resynced`, and its
//!   `listen` returns then.
//! - A task that waits in [`listen`](Listener::listen) does not read. With [`WhenFull::Wait`] and a full queue, the answer is
//!   behind notifications that nobody takes, and the call ends with [`Error::Backlog`]. Call it from another task.
//! - While a queue is full and waits, the end of the connection is not noticed either. It is reported after everything received
//!   before it. But if the reader is more than a second behind, a query (`listen`, `ping` and the like) is sent without waiting
//!   for the reader. If the server has gone by then, what its machine has not sent yet is lost with the connection.
//! - With [`WhenFull::Wait`], if notifications keep arriving faster than the reader takes them, each query takes a second to be
//!   sent, and its answer waits behind all that has arrived. `listen`, `ping` and the like then end with [`Error::Backlog`]
//!   after one or two [`ping_timeout`](ListenerBuilder::ping_timeout)s.
//! - While a reader is paused by its full queue, this side sends nothing. A server with an `idle_session_timeout` may end such a
//!   session.
//! - A pooler in transaction mode, such as PgBouncer with `pool_mode=transaction`, does not keep the `LISTEN` of a session. It is
//!   noticed by the process ids of the server, and reported once as [`Event::SessionNotKept`], with a line in the log. If other
//!   clients keep the pool busy, that may take some heartbeats. For that, each login through a pooler makes a second, short
//!   connection, until it knows. Pools in session mode work.
//!
//! Next: [`Listener`], the type that a program reads from, and [`ListenerBuilder`], its settings.

pub use tokio_postgres;

pub use self::builder::ListenerBuilder;
pub use self::error::Error;
pub use self::event::Event;
pub use self::handle::ListenerHandle;
pub use self::listener::Listener;
pub use self::listener_conn::ListenerConn;
pub use self::message::{Message, Notification, WhenFull};
pub use self::server_config::ServerConfig;
pub use self::subscription::Subscription;

mod attempt_config;
mod attempt_observer;
mod builder;
mod cause;
mod channels;
mod connection;
mod connection_string;
mod decoder;
mod end_reason;
mod error;
mod event;
mod handle;
mod heartbeat;
mod hooks;
mod hopeless;
mod hosts;
mod listener;
mod listener_conn;
mod listener_shared;
mod login;
mod login_dialer;
mod message;
mod pending_queries;
mod pooler;
mod queue;
mod receivers;
mod reply;
mod server_config;
mod start;
mod stream;
mod subscription;
mod task;
mod task_watch;
#[cfg(feature = "tls")]
mod tls;

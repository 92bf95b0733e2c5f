//! A PostgreSQL `LISTEN`/`NOTIFY` listener that survives the server.

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
mod dialer;
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
mod server_config;
mod shared;
mod start;
mod task;
#[cfg(feature = "tls")]
mod tls;
mod wire;

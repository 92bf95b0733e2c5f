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

mod builder;
mod dialer;
mod error;
mod event;
mod handle;
mod hooks;
mod listener;
mod listener_conn;
mod message;
mod server_config;

//! A faulty network for tests: of programs that use this crate, and of any other client.
//!
//! - [`FaultProxy`] stands between a client and a real server, over real sockets.
//! - [`ScriptedDialer`] and [`ScriptedStream`] are a server without sockets, for unit tests with paused time.
//! - [`events`] and [`errors`] make the values that hooks get, for tests of hooks.
//!
//! Next: [`FaultProxy`].

pub use self::proxy::{Cut, Direction, FaultProxy, Link, LinkEnd, LinkRecord, Peer, Wait};
pub use self::scripted_dialer::ScriptedDialer;
pub use self::scripted_stream::ScriptedStream;

pub mod errors;
pub mod events;
mod proxy;
mod scripted_dialer;
mod scripted_stream;

//! Frames over a connection that outlives its sockets: a `Stream` and a `Sink` by the codecs of [`tokio_util::codec`].
//!
//! [`Framed`] puts a codec on a [`Conn`](crate::Conn), [`FramedRead`] and [`FramedWrite`] on its halves. At a break they
//! drop the half-received and the half-sent frame, take a fresh codec, tell of the break once, and go on with the next
//! link. They end only when there will be no further link.
//!
//! ```
//! use futures_util::{SinkExt, StreamExt};
//! use perconn::Conn;
//! use perconn::codec::{Framed, FramedError};
//! use tokio_util::codec::LinesCodec;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = server.local_addr()?;
//! # tokio::spawn(async move {
//! #     use tokio::io::AsyncWriteExt;
//! #     server.accept().await?.0.write_all(b"one\n").await?;
//! #     server.accept().await?.0.write_all(b"two\n").await
//! # });
//! let conn = Conn::builder(address).max_retries(1).build()?;
//! let mut framed = Framed::new(conn, LinesCodec::new_with_max_length(64 * 1024));
//! # let mut seen = Vec::new();
//! while let Some(item) = framed.next().await {
//!     match item {
//!         Ok(line) => {
//!             println!("received {line}");
//! #           seen.push(line);
//!         }
//!         // What has to be said again on each link: subscriptions, requests that have no answer.
//!         Err(error @ FramedError::Break { .. }) => println!("{error}"),
//!         // This connection lives on, but what it says makes no sense: leave the link.
//!         Err(FramedError::Codec(_)) => framed.reconnect(),
//!         Err(error) => println!("{error}"), // no link; if `is_final()`, the loop ends after it
//!     }
//! }
//! # assert_eq!(seen, ["one", "two"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Why a break is an error and not a kind of frame
//!
//! An item is a `Result<Frame, FramedError>`. A break stands on the error side: a loop with `?`, or a combinator such as
//! `try_next` or `try_for_each`, stops at it, and a program that forgets it is stopped by the compiler where it takes
//! the frame out. Were it a second kind of item, `filter_map` and `if let` would step over it, and the requests that were
//! under way would be waited for in vain. And as in tokio-util, a frame that came is `Some(Ok(frame))`.
//!
//! # Receiving
//!
//! - Every whole frame that arrived before a break is yielded before it. What came of an unfinished one is dropped.
//! - The stream yields every break once, with ascending generations. (If it sleeps through more than 16 links, the last
//!   16, like every handle.)
//! - If the peer closes in good order, the codec's `decode_eof` has the last word, and may make a last frame of what is
//!   left (`LinesCodec` does, also of half a line: see [`Terminated`]) or an error (`LengthDelimitedCodec` does). Then the
//!   break is told.
//! - A codec's error is yielded as [`FramedError::Codec`] and is no break. The next call asks the codec again, so one that can
//!   get past it does (`LinesCodec` skips a line that is too long). If it fails again at the same bytes, it cannot (a length
//!   beyond `LengthDelimitedCodec`'s `max_frame_length`): then the link is broken on purpose, as by
//!   [`reconnect`](Framed::reconnect), and the next item is the break. So a loop that passes errors on neither spins nor hangs
//!   on one, and a server that always sends nonsense is redialed at the pace of the backoff.
//! - After [`FramedError::End`] comes `None`, for ever.
//!
//! # Sending
//!
//! - `start_send` encodes into a buffer, which is written by a flush, or when it holds 8 KiB. A flush that succeeded has
//!   handed every frame to the kernel. Whether they have arrived, only an answer of the peer's can tell.
//! - **At a break every frame that no flush has confirmed may be lost.** A frame that was cut is never gone on with on the next
//!   link; one that was not begun is dropped as well, since its sender may say it again. The next call tells of the break,
//!   once, and then the sink is empty: nothing that was accepted before an error is sent after it. So the first byte that a
//!   peer gets on a link is the first byte of a frame.
//! - That holds for [`FramedError::Down`], too. But a codec's error concerns its own frame only: nothing of it is sent,
//!   and what was accepted before stays.
//! - While there is no link, a flush waits as [`when_down`](crate::Builder::when_down) says.
//! - Closing the sink flushes, and ends the conversation as [`Conn`](crate::Conn#shutdown)'s shutdown does. If the flush fails,
//!   the conversation ends all the same, and then the flush's error is told.
//!
//! # Saying something again on each link
//!
//! A login belongs into a [session set-up](crate::Dial::and_then), which is over before a frame passes. What goes through the
//! frames themselves, such as a subscription, is sent once at the start and once for each break that the *stream* yields. If
//! that `send` is told of a break, the stream comes to the same break as well: the error may be ignored.
//! `examples/framed_lines.rs` does so.
//!
//! # Why not tokio-util's own `Framed`
//!
//! It works on a `Conn` as long as the link lives. But it is made for one stream with one end:
//!
//! - at a read's error it yields the error and then `None`. If it is polled on, it reads from the next link, with the half
//!   frame of the old one still in its buffer and the codec where it was: half of one frame is glued to a part of another;
//! - after the end of the stream it goes on only if it is polled beyond `None`;
//! - its sink keeps what it had not written. The next flush begins the new link with the rest of a frame;
//! - after a codec's error it yields `None` once. `LengthDelimitedCodec` then fails again at every read, and keeps all that
//!   is read.
//!
//! A `Conn` must not be used with it beyond a break. `tests/codec` has both side by side.

mod codecs;
mod error;
mod factory;
mod framed;
mod halves;
mod inbound;
mod outbound;
mod terminated;

pub use self::error::FramedError;
pub use self::framed::Framed;
pub use self::halves::{FramedRead, FramedWrite};
pub use self::terminated::Terminated;

/// Room for a first read; and how much is written at once.
const INITIAL_CAPACITY: usize = 8 * 1024;

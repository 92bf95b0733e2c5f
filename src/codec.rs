//! Frames over a connection that outlives its sockets, with the codecs of [`tokio_util::codec`].
//!
//! [`Framed`] puts a codec on a [`Conn`](crate::Conn), [`FramedRead`] and [`FramedWrite`] on its halves. Each is a
//! `Stream`, a `Sink` or both. At a break they drop the half-received and the half-sent frame, take a fresh codec,
//! report the break once, and go on with the next link. They end only when there will be no further link.
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
//!         // Send again what each link needs: subscriptions, requests that have no answer.
//!         Err(error @ FramedError::Break { .. }) => println!("{error}"),
//!         // The link is up, but its bytes make no sense: break it.
//!         Err(FramedError::Codec(_)) => framed.break_link(framed.stream_generation()),
//!         Err(error) => println!("{error}"), // no link; if `is_final()`, the stream ends next
//!     }
//! }
//! # assert_eq!(seen, ["one", "two"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Why a break is an error and not a kind of frame
//!
//! An item is a `Result<Frame, FramedError>`, and a break is on the error side. A loop with `?`, or a combinator such
//! as `try_next` or `try_for_each`, stops at it. A program that forgets it does not compile where it takes the frame
//! out. If a break were a second kind of item, `filter_map` and `if let` would step over it. Then the program would
//! wait in vain for the answers to its requests. And as in tokio-util, a received frame is `Some(Ok(frame))`.
//!
//! # Receiving
//!
//! - The stream yields every whole frame that arrived before a break, and then the break. Half-received frames are dropped.
//! - The stream yields every break once, with ascending generations. If it sleeps through more than 16 links, it yields the
//!   breaks of the last 16, like every handle.
//! - If the peer closes cleanly, the codec's `decode_eof` sees the rest. It may make a last frame of it (`LinesCodec` does, even
//!   of half a line: see [`Terminated`]) or an error (`LengthDelimitedCodec` does). Then the stream yields the break.
//! - A codec's error is yielded as [`FramedError::Codec`] and is not a break. The next call asks the codec again, so a codec that
//!   can get past its error does: `LinesCodec` skips a line that is too long.
//! - If the codec fails again at the same bytes, it cannot get past them: say, a length beyond `LengthDelimitedCodec`'s
//!   `max_frame_length`. Then the stream breaks the link on purpose, as [`break_link`](Framed::break_link) does, and the next item
//!   is the break. So a loop that ignores errors neither spins nor hangs, and a server that always sends nonsense is redialed
//!   at the pace of the backoff.
//! - After [`FramedError::End`] the stream yields `None`, for ever.
//!
//! # Sending
//!
//! - `start_send` encodes into a buffer. A flush writes it, and so does the next send once it holds 8 KiB. A flush that succeeded
//!   has handed every frame to the kernel. Only an answer of the peer's shows that they have arrived.
//! - **At a break every frame that no flush has confirmed may be lost.** The rest of a half-sent frame is never sent on the next
//!   link. A frame that was not begun is dropped as well, since its sender may send it again. The next call reports the break,
//!   once, and then the sink is empty: nothing that was accepted before an error is sent after it. So the first byte that
//!   a peer gets on a link is the first byte of a frame.
//! - That holds for [`FramedError::Down`], too. But a codec's error concerns its own frame only: nothing of that frame is sent,
//!   and the frames accepted before stay.
//! - While there is no link, a flush waits as [`when_down`](crate::Builder::when_down) says.
//! - Closing the sink flushes it and shuts the writing side down, as [`Conn`](crate::Conn#shutdown)'s shutdown does. If the flush
//!   fails, the close shuts down all the same and then returns the flush's error.
//!
//! # Sending something again on each link
//!
//! A login belongs into a [session set-up](crate::Dial::and_then), which is over before a frame passes. What goes
//! through the frames themselves, such as a subscription, is sent once at the start and once for each break that the
//! *stream* yields. If that `send` reports a break, you may ignore the error, as the stream comes to the same break
//! (as in `examples/framed_lines.rs`). But if it fails with [`FramedError::Down`], the subscription is still owed, and the stream says nothing when the link is up:
//! wait for [`connected`](crate::ReadHalf::connected) and send it then.
//!
//! # Why not tokio-util's own `Framed`
//!
//! It works on a `Conn` as long as the link lives. But it is made for one stream with one end:
//!
//! - At a read error it yields the error and then `None`. If you poll on, it reads from the next link, with the old codec and
//!   with half a frame of the old link in its buffer. So it joins parts of two frames.
//! - After the end of the stream it goes on only if you poll beyond `None`.
//! - Its sink keeps what it had not written. The next flush begins the new link with the rest of a frame.
//! - After a codec's error it yields `None` once. `LengthDelimitedCodec` then fails again at every read, and the buffer keeps
//!   all that is read.
//!
//! Do not use a `Conn` with it beyond a break. `tests/codec` has both side by side.
//!
//! Next: [`Framed`], and [`FramedError`] for what it returns instead of a frame.

mod codecs;
mod error;
mod factory;
mod framed;
mod framed_read;
mod framed_write;
mod inbound;
mod outbound;
mod terminated;

pub use tokio_util;

pub use self::error::FramedError;
pub use self::framed::Framed;
pub use self::framed_read::FramedRead;
pub use self::framed_write::FramedWrite;
pub use self::terminated::Terminated;

/// The room for a first read, and the default backpressure boundary of a sink.
const INITIAL_CAPACITY: usize = 8 * 1024;

/// A buffer that has held more than this is given back when it is empty.
const KEPT_CAPACITY: usize = 64 * 1024;

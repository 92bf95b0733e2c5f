//! How messages become bytes, and bytes become answers.
//!
//! Next: [`Answers`], the easy way for answers alone.

use std::io;

use bytes::Bytes;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Encoder;

use super::Answer;
#[cfg(doc)]
use super::{Answers, OutboxBuilder, Resend};

/// A protocol between an outbox and its peer: what a message looks like on the wire, and what the answers mean.
///
/// Give one to [`OutboxBuilder::protocol`]. Without one, the bytes of each message go out as they are, and the program
/// frames them itself. If there are only answers to read, [`Answers`] is easier.
///
/// What a link needs before its first message (a greeting, a login) belongs into the connection:
/// [`Builder::and_then`](crate::Builder::and_then), so that it is a part of the dial and fails like one. A type with a
/// protocol of its own takes the connection's builder, adds that set-up, and returns an
/// [`OutboxBuilder`].
///
/// All methods are called by the outbox's task, one at a time. They must not block. A panic breaks the link, and the next
/// one starts over with [`begin`](Protocol::begin). A message whose `encode` panics is rejected, so that it breaks one link and
/// no more.
///
/// ```
/// use std::io;
/// use bytes::{Buf, BytesMut};
/// use perconn::outbox::{Answer, Protocol};
///
/// /// Sends `3:abc`, with numbers from 1 on each link, and reads one byte for each message: `+` or `-`.
/// struct Numbered {
///     next: u64,
/// }
///
/// impl Protocol for Numbered {
///     fn begin(&mut self) {
///         self.next = 1;
///     }
///
///     fn encode(&mut self, _number: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
///         wire.extend_from_slice(format!("{}:", self.next).as_bytes());
///         wire.extend_from_slice(message);
///         self.next += 1;
///         Ok(())
///     }
///
///     fn has_answers(&self) -> bool {
///         true
///     }
///
///     fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>> {
///         match inbound.has_remaining().then(|| inbound.get_u8()) {
///             None => Ok(None),
///             Some(b'+') => Ok(Some(Answer::Next)),
///             Some(b'-') => Ok(Some(Answer::NextRejected("not wanted".into()))),
///             Some(other) => Err(io::Error::other(format!("expected + or -, found {other}"))),
///         }
///     }
/// }
/// ```
pub trait Protocol: Send + 'static {
    /// A new link begins. The state of the last one is void: numbers start over, half-received answers are gone.
    ///
    /// Also called before the first link. Does nothing by default.
    fn begin(&mut self) {}

    /// Appends the bytes of a message to `wire`, to be sent on the present link.
    ///
    /// Called once for each message and link, in the order in which the messages go out. `number` is the same on every
    /// link. What `wire` holds already belongs to other messages: leave it alone.
    ///
    /// # Errors
    ///
    /// The message cannot be sent with this protocol, on any link. Then its fate is
    /// [`Rejected`](super::Fate::Rejected) with this error's text; what was appended is taken off again, and the link
    /// goes on. So it is, too, if nothing was appended.
    fn encode(&mut self, number: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()>;

    /// Whether the peer answers each message.
    ///
    /// Then the outbox sends again what is not answered, as with [`Resend::Unanswered`]. Asked once, at the start. False
    /// by default.
    fn has_answers(&self) -> bool {
        false
    }

    /// Takes the next answer out of the front of `inbound`. `Ok(None)`: more has to arrive first.
    ///
    /// Called again and again until it returns `Ok(None)`. Frames that are no answers are taken out and passed over. Only
    /// called if the protocol [has answers](Protocol::has_answers); otherwise what the peer sends is dropped.
    ///
    /// # Errors
    ///
    /// What has arrived makes no sense, or the peer ends the conversation. The link breaks, with this error as the cause.
    fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>> {
        inbound.clear();
        Ok(None)
    }

    /// Appends the last bytes of a link that the outbox closes, after all its messages: a "quit".
    ///
    /// Not called after a break. Nothing by default.
    fn finish(&mut self, wire: &mut BytesMut) {
        let _ = wire;
    }
}

/// How much memory is asked for at once.
const SCRATCH_BYTES: usize = 16 * 1024;

/// The frames of an encoder of tokio-util.
pub(super) struct Framing<F, E> {
    /// Makes the encoder of a link.
    make: F,
    /// The encoder of this link.
    encoder: Option<E>,
    /// Memory for the messages that it takes.
    scratch: BytesMut,
}

impl<F, E> Framing<F, E> {
    /// Makes frames with what `make` returns for each link.
    pub(super) fn new(make: F) -> Self {
        Self { make, encoder: None, scratch: BytesMut::new() }
    }
}

impl<F, E> Protocol for Framing<F, E>
where
    F: FnMut() -> E + Send + 'static,
    E: Encoder<Bytes> + Send + 'static,
    E::Error: std::fmt::Display,
{
    fn begin(&mut self) {
        self.encoder = None;
    }

    fn encode(&mut self, _number: u64, message: &[u8], wire: &mut BytesMut) -> io::Result<()> {
        let encoder = self.encoder.get_or_insert_with(&mut self.make);
        // The encoder takes a `Bytes`: several messages share a piece of memory.
        if self.scratch.capacity() < message.len() {
            self.scratch.reserve(message.len().max(SCRATCH_BYTES));
        }
        self.scratch.extend_from_slice(message);
        let encoded = encoder.encode(self.scratch.split().freeze(), wire);
        encoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
    }
}

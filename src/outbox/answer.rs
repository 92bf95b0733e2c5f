//! What the peer says about messages, and how it is read.
//!
//! Next: [`Protocol`], of which this is one half.

use std::fmt;
use std::io;

use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

#[cfg(doc)]
use super::{OutboxBuilder, Protocol, Resend};

/// What one answer of the peer says about messages, by their numbers.
///
/// An answer counts for the link on which it arrives. An answer to a message that was not sent on this link, and a second
/// answer to the same message, is an error of the protocol: it breaks the link, and what is unanswered goes again on the
/// next one. The only answer that may be repeated is [`UpTo`](Answer::UpTo).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The oldest unanswered message has arrived: the peer answers in order, without a number.
    Next,
    /// The message with this number has arrived, and all before it.
    ///
    /// A number that is below what is answered already says nothing new and is no error. On a new link, the number
    /// may be of a message that was sent on an earlier one: then it is not sent again.
    UpTo(u64),
    /// The message with this number has arrived.
    One(u64),
    /// The peer does not want the message with this number, and says why. It is not sent again.
    Rejected(u64, String),
    /// The peer does not want the oldest unanswered message, and says why. It is not sent again.
    NextRejected(String),
}

/// How the answers of the peer are read, for [`Resend::Unanswered`].
///
/// A decoder of tokio-util takes frames out of what arrives, and a function says what each frame means:
///
/// ```
/// use perconn::outbox::{Answer, Answers, Resend};
/// use perconn::codec::tokio_util::codec::LinesCodec;
///
/// // "ok" for each line, in order; other lines are no answers.
/// let in_order = Answers::new(
///     || LinesCodec::new_with_max_length(1024),
///     |line| (line == "ok").then_some(Answer::Next),
/// );
/// // "ack 17": all up to number 17. Anything else is an error, and breaks the link.
/// let by_number = Answers::new(
///     || LinesCodec::new_with_max_length(1024),
///     |line| {
///         let number = line.strip_prefix("ack ").and_then(|number| number.parse().ok());
///         number.map(Answer::UpTo).ok_or_else(|| std::io::Error::other(format!("not an answer: {line}")))
///     },
/// );
/// # let _ = [Resend::Unanswered(in_order), Resend::Unanswered(by_number)];
/// ```
#[must_use = "answers do nothing by themselves, pass them to `Resend::Unanswered`"]
pub struct Answers(Box<dyn ReadAnswers>);

impl Answers {
    /// Reads frames with a decoder, a new one for each link, and asks `answer` what each of them means.
    ///
    /// `answer` returns an [`Answer`], an `Option` of one, or an [`io::Result`] of either. `None`: the frame is no
    /// answer, and is dropped. An error, of the decoder or of `answer`, breaks the link. So does a panic.
    pub fn new<D, A>(
        decoder: impl FnMut() -> D + Send + 'static,
        answer: impl FnMut(D::Item) -> A + Send + 'static,
    ) -> Self
    where
        D: Decoder + Send + 'static,
        D::Error: fmt::Display,
        A: IntoAnswer,
    {
        Self(Box::new(ByDecoder { make: decoder, decoder: None, answer }))
    }

    /// Begins with a new link.
    pub(super) fn begin(&mut self) {
        self.0.begin();
    }

    /// The next answer in what has arrived. `None`: more has to arrive.
    pub(super) fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>> {
        self.0.decode(inbound)
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

/// What a function from a frame to an answer may return; see [`Answers::new`].
///
/// This trait is sealed: it is implemented for [`Answer`], `Option<Answer>`, and an [`io::Result`] of either.
pub trait IntoAnswer: sealed::Sealed {
    /// The answer. `Ok(None)`: the frame was none.
    ///
    /// # Errors
    ///
    /// The frame makes no sense. It breaks the link.
    fn into_answer(self) -> io::Result<Option<Answer>>;
}

mod sealed {
    /// Only this crate implements `IntoAnswer`.
    #[expect(unnameable_types, reason = "nobody else implements it")]
    pub trait Sealed {}
    impl Sealed for super::Answer {}
    impl Sealed for Option<super::Answer> {}
    impl<T: Sealed> Sealed for std::io::Result<T> {}
}

impl IntoAnswer for Answer {
    fn into_answer(self) -> io::Result<Option<Self>> {
        Ok(Some(self))
    }
}

impl IntoAnswer for Option<Answer> {
    fn into_answer(self) -> io::Result<Self> {
        Ok(self)
    }
}

impl<T: IntoAnswer> IntoAnswer for io::Result<T> {
    fn into_answer(self) -> io::Result<Option<Answer>> {
        self?.into_answer()
    }
}

/// Counts calls of a decoder that return something and take no bytes. Some are in order: one frame can answer many messages.
pub(super) struct IdleCalls {
    /// How many bytes there were before them.
    bytes: usize,
    /// How many calls there were since.
    calls: usize,
}

impl IdleCalls {
    /// How many answers one frame may have: the largest window.
    const LIMIT: usize = 1 << 20;

    /// Before the first call.
    pub(super) fn new(inbound: &BytesMut) -> Self {
        Self { bytes: inbound.len(), calls: 0 }
    }

    /// After a call that has returned something.
    ///
    /// # Errors
    ///
    /// The decoder would go on for ever.
    pub(super) fn check(&mut self, inbound: &BytesMut) -> io::Result<()> {
        self.calls = if inbound.len() == self.bytes { self.calls + 1 } else { 0 };
        self.bytes = inbound.len();
        if self.calls > Self::LIMIT {
            return Err(io::Error::other(
                "the decoder of answers returns something again and again, and takes no bytes",
            ));
        }
        Ok(())
    }
}

/// Any kind of decoder behind one type.
trait ReadAnswers: Send {
    /// See [`Answers::begin`].
    fn begin(&mut self);
    /// See [`Answers::decode`].
    fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>>;
}

/// A decoder of tokio-util and a function.
struct ByDecoder<M, D, F> {
    /// Makes the decoder of a link.
    make: M,
    /// The decoder of this link.
    decoder: Option<D>,
    /// Says what a frame means.
    answer: F,
}

impl<M, D, F, A> ReadAnswers for ByDecoder<M, D, F>
where
    M: FnMut() -> D + Send,
    D: Decoder + Send,
    D::Error: fmt::Display,
    F: FnMut(D::Item) -> A + Send,
    A: IntoAnswer,
{
    fn begin(&mut self) {
        self.decoder = None;
    }

    fn decode(&mut self, inbound: &mut BytesMut) -> io::Result<Option<Answer>> {
        let decoder = self.decoder.get_or_insert_with(&mut self.make);
        let mut idle = IdleCalls::new(inbound);
        loop {
            // The decoder's error may not be `Send`, and may not be an error type: its text is what is left of it.
            let failed = |error: D::Error| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
            let Some(frame) = decoder.decode(inbound).map_err(failed)? else { return Ok(None) };
            if let Some(answer) = (self.answer)(frame).into_answer()? {
                return Ok(Some(answer));
            }
            idle.check(inbound)?;
        }
    }
}

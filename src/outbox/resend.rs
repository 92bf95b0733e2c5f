//! What is sent again after a break, and what happens when the queue is full.
//!
//! Next: `store/link.rs`, the rules behind it.

use super::Answers;
#[cfg(doc)]
use super::{Fate, Outbox, OutboxBuilder};

/// What is sent again on the next link after a break; see [`OutboxBuilder::resend`].
///
/// | policy | sent again | lost, and counted as in doubt | twice |
/// |---|---|---|---|
/// | `Never` | nothing | the message that the break cut, and what the peer's kernel had not acknowledged | nothing |
/// | `Interrupted` | the message that the break cut | what the peer's kernel had not acknowledged | nothing: the peer got a part |
/// | `Unacknowledged` | also what the peer's kernel had not acknowledged | nothing that is counted | what had arrived without its acknowledgement |
/// | `Unanswered` | all that the peer has not answered | nothing, unless messages expire or make room | what had arrived without its answer |
///
/// With the first three, a message counts as [written](Fate::Written) once the peer's *kernel* has it. A server that is
/// killed or crashes loses what its kernel had and its program had not read, and no client can see that. **Only
/// `Unanswered` is at least once.**
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Resend {
    /// Nothing is sent twice, not even the message of which a break let only a part through.
    Never,
    /// The message that the break cut is sent again, whole. The default.
    #[default]
    Interrupted,
    /// Also what the peer's kernel had not acknowledged.
    ///
    /// For TCP on Linux (x86, ARM, riscv64, s390x), as only there the count is known; an
    /// [`InvalidConfig`](crate::Error::InvalidConfig) for anything else.
    Unacknowledged,
    /// All that the peer's program has not answered: in order, and before anything new.
    ///
    /// [`window`](OutboxBuilder::window) limits how many messages wait for an answer, and
    /// [`answer_timeout`](OutboxBuilder::answer_timeout) how long one of them waits.
    Unanswered(Answers),
}

/// What a send does when the queue is full; see [`OutboxBuilder::when_full`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// [`send`](Outbox::send) waits for room, and [`try_send`](Outbox::try_send) fails. The default.
    #[default]
    Wait,
    /// The oldest message that is not on its way makes room. If all of them are, the new one is dropped. A message that a
    /// break has brought back after it had been handed over whole is then in doubt, and not dropped.
    DropOldest,
    /// The new message is dropped. It has a number all the same, and counts as accepted.
    DropNewest,
}

//! What the slot table answers to a caller that wants an entry.
//!
//! Next: [`Acquire`](crate::pool::acquire::Acquire), which acts on the answers.

/// The number of an entry in its table.
pub(in crate::pool) type EntryId = usize;

/// The number of a waiter at its entry.
pub(in crate::pool) type WaiterId = usize;

/// The answer to a caller that asks.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pool) enum Admission<R, E> {
    /// The caller gets this now.
    Granted(Grant<R, E>),
    /// The caller has to wait, and is in the queue with this number.
    Queued(WaiterId),
    /// The caller would have to wait, but gave no waker.
    Busy,
}

/// What a caller gets, at once or when it has waited.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pool) enum Grant<R, E> {
    /// The entry, with an open connection.
    Reuse,
    /// The same, but the caller has to close the connection and open another one in its slot.
    Replace,
    /// The entry and a slot. A connection that comes with it has to be closed first: the slot is still its own.
    Slot(Option<Evicted<R>>),
    /// Nothing, for this reason.
    Failed(E),
}

/// An idle connection that the table has taken out, to be closed.
///
/// Its entry stays acquired until it is closed. A caller that asks for the same resource meanwhile waits, and never
/// opens a second connection beside it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pool) struct Evicted<R> {
    /// The resource that holds the connection.
    pub(in crate::pool) resource: R,
    /// The entry to release once the connection is closed.
    pub(in crate::pool) entry: EntryId,
}

//! The number of acceptor slots, and what happens when all are taken. No I/O, no clock.
//!
//! Next: [`super::registry`], which takes a slot for each connection.

use super::Error;

/// What happens to a client that connects while all acceptor slots are taken.
///
/// ```
/// use perconn::acceptor::{Acceptor, Overflow};
///
/// // 100 connections at once; up to 1000 in a rush; any further client reads the refusal.
/// let builder = Acceptor::builder("127.0.0.1:0")
///     .acceptors(100)
///     .overflow(Overflow::Grow { by: 100, max: 1000 })
///     .refusal("the server is full\n");
/// # drop(builder);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The connection is accepted, sent the [`refusal`](super::AcceptorBuilder::refusal), and closed cleanly.
    Refuse,
    /// The client waits in the kernel's queue ([`backlog`](super::AcceptorBuilder::backlog)) until a slot is free.
    /// With TLS, it may wait after its handshake.
    Wait,
    /// The acceptor grows by `by` slots, up to `max` in all. Beyond that, clients are refused. The extra slots are
    /// removed when they are no longer needed.
    Grow {
        /// The number of slots in one step.
        by: usize,
        /// The highest number of slots.
        max: usize,
    },
}

/// How many acceptor slots there are, and how many of them are busy.
#[derive(Debug)]
pub(super) struct Capacity {
    /// The number of slots that are never removed.
    base: usize,
    /// Whether a full acceptor grows, and how far. What `Refuse` and `Wait` do is up to the accept loop.
    overflow: Overflow,
    /// How many times it has grown and not shrunk again.
    steps: usize,
    /// The number of slots that are taken.
    busy: usize,
}

/// All slots are busy, and there can be no more of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Capacity {
    /// All slots are free.
    pub(super) fn new(base: usize, overflow: Overflow) -> Self {
        Self { base, overflow, steps: 0, busy: 0 }
    }

    /// Rejects settings that cannot work.
    pub(super) fn check(base: usize, overflow: Overflow) -> Result<(), Error> {
        if base == 0 {
            return Error::invalid("0 acceptors: expected at least 1");
        }
        match overflow {
            Overflow::Grow { by: 0, .. } => Error::invalid("overflow: grow by 0 acceptors: expected at least 1"),
            Overflow::Grow { max, .. } if max < base => Error::invalid(format!(
                "overflow: grow to at most {max} acceptors: expected at least {base}, the number of acceptors"
            )),
            _ => Ok(()),
        }
    }

    /// How many slots are taken now.
    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    /// How many slots there are now.
    pub(super) fn total(&self) -> usize {
        self.total_at(self.steps)
    }

    /// How many slots there are after this many steps of growth.
    fn total_at(&self, steps: usize) -> usize {
        match self.overflow {
            Overflow::Grow { by, max } => self.base.saturating_add(by.saturating_mul(steps)).min(max),
            Overflow::Refuse | Overflow::Wait => self.base,
        }
    }

    /// Takes a slot. Returns the new total if it had to grow.
    pub(super) fn acquire(&mut self) -> Result<Option<usize>, Full> {
        let before = self.total();
        if self.busy < before {
            self.busy += 1;
            return Ok(None);
        }
        let after = self.total_at(self.steps + 1);
        if after == before {
            return Err(Full);
        }
        self.steps += 1;
        self.busy += 1;
        Ok(Some(after))
    }

    /// Frees a slot. Returns the new total if it has shrunk.
    ///
    /// The last step goes when the steps below it have half a step of room beyond what is busy. Without that margin,
    /// one client that comes and goes would make it grow and shrink each time.
    pub(super) fn release(&mut self) -> Option<usize> {
        self.busy -= 1;
        let before = self.total();
        while self.steps > 0 {
            let (above, below) = (self.total(), self.total_at(self.steps - 1));
            let room = (above - below).min(below) / 2;
            if self.busy + room > below {
                break;
            }
            self.steps -= 1;
        }
        let after = self.total();
        (after != before).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_rejected() {
        for (base, overflow, reason) in [
            (1, Overflow::Refuse, None),
            (1, Overflow::Wait, None),
            (0, Overflow::Wait, Some("0 acceptors")),
            (2, Overflow::Grow { by: 1, max: 2 }, None),
            (2, Overflow::Grow { by: 1, max: 3 }, None),
            (2, Overflow::Grow { by: 1, max: 1 }, Some("at most 1")),
            (2, Overflow::Grow { by: 0, max: 3 }, Some("by 0")),
        ] {
            let error = Capacity::check(base, overflow).err().map(|error| error.to_string());
            let is_expected = match (&error, reason) {
                (Some(error), Some(reason)) => error.contains(reason),
                (error, reason) => error.is_none() && reason.is_none(),
            };
            assert!(is_expected, "{base} with {overflow:?}: {error:?}");
        }
    }

    #[test]
    fn without_growth_the_base_is_all() {
        for overflow in [Overflow::Refuse, Overflow::Wait] {
            let mut capacity = Capacity::new(2, overflow);
            assert_eq!([capacity.acquire(), capacity.acquire(), capacity.acquire()], [Ok(None), Ok(None), Err(Full)]);
            assert_eq!((capacity.release(), capacity.acquire(), capacity.acquire()), (None, Ok(None), Err(Full)));
        }
    }

    #[test]
    fn growth_is_by_steps_and_ends_at_the_maximum() {
        let mut capacity = Capacity::new(1, Overflow::Grow { by: 2, max: 4 });
        let acquired = [(); 5].map(|()| capacity.acquire());
        assert_eq!(acquired, [Ok(None), Ok(Some(3)), Ok(None), Ok(Some(4)), Err(Full)]);
    }

    #[test]
    fn whatever_has_grown_shrinks_back() {
        for base in 1..6 {
            for by in 1..9 {
                for max in base..20 {
                    let mut capacity = Capacity::new(base, Overflow::Grow { by, max });
                    let acquired = (0..=max).take_while(|_| capacity.acquire().is_ok()).count();
                    assert_eq!(acquired, max);
                    assert_eq!((capacity.busy(), capacity.total()), (max, max));
                    for busy in (base / 2..max).rev() {
                        capacity.release();
                        assert_eq!(capacity.busy(), busy);
                        assert!(busy <= capacity.total());
                    }
                    assert_eq!(capacity.total(), base, "{base} by {by} to {max}");
                }
            }
        }
    }

    #[test]
    fn one_client_that_comes_and_goes_changes_nothing() {
        let mut capacity = Capacity::new(10, Overflow::Grow { by: 10, max: 100 });
        for _ in 0..11 {
            capacity.acquire().unwrap();
        }
        for _ in 0..5 {
            assert_eq!((capacity.release(), capacity.acquire()), (None, Ok(None)));
        }
        for _ in 0..5 {
            assert_eq!(capacity.release(), None);
        }
        assert_eq!(capacity.release(), Some(10));
    }

    #[test]
    fn growth_without_end_does_not_overflow() {
        let mut capacity = Capacity::new(1, Overflow::Grow { by: usize::MAX, max: usize::MAX });
        assert_eq!([capacity.acquire(), capacity.acquire()], [Ok(None), Ok(Some(usize::MAX))]);
        assert_eq!(capacity.release(), Some(1));
    }
}

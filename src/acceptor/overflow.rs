//! How many connections are served at once, and what happens to the next one. No I/O, no clock.

use super::Error;

/// What happens when a client comes and all acceptors are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It is accepted, told why ([`refusal`](super::AcceptorBuilder::refusal)), and its connection closed in good order.
    Refuse,
    /// It waits in the kernel's queue ([`backlog`](super::AcceptorBuilder::backlog)) until an acceptor is free. With TLS, it
    /// may wait after its handshake.
    Wait,
    /// There are `by` more acceptors then, up to `max` in all. Beyond that, it is refused. They go again when they are not
    /// needed any more.
    Grow {
        /// How many at a time.
        by: usize,
        /// How many in all.
        max: usize,
    },
}

/// The book of the acceptors: how many there are, and how many of these are busy.
#[derive(Debug)]
pub(super) struct Slots {
    base: usize,
    overflow: Overflow,
    steps: usize,
    busy: usize,
}

/// There is no acceptor free.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Slots {
    pub(super) fn new(base: usize, overflow: Overflow) -> Self {
        Self { base, overflow, steps: 0, busy: 0 }
    }

    pub(super) fn check(base: usize, overflow: Overflow) -> Result<(), Error> {
        if base == 0 {
            return Error::invalid("0 acceptors: expected at least 1");
        }
        match overflow {
            Overflow::Grow { by: 0, .. } => Error::invalid("overflow: grow by 0 acceptors: expected at least 1"),
            Overflow::Grow { max, .. } if max < base => Error::invalid(format!(
                "overflow: grow to at most {max} acceptors: expected {base}, the acceptors, or more"
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity_at(self.steps)
    }

    fn capacity_at(&self, steps: usize) -> usize {
        match self.overflow {
            Overflow::Grow { by, max } => self.base.saturating_add(by.saturating_mul(steps)).min(max),
            Overflow::Refuse | Overflow::Wait => self.base,
        }
    }

    /// Takes an acceptor; says how many there are, if there are more for that.
    pub(super) fn enter(&mut self) -> Result<Option<usize>, Full> {
        let before = self.capacity();
        if self.busy < before {
            self.busy += 1;
            return Ok(None);
        }
        let after = self.capacity_at(self.steps + 1);
        if after == before {
            return Err(Full);
        }
        self.steps += 1;
        self.busy += 1;
        Ok(Some(after))
    }

    /// Gives one back; says how many there are, if there are fewer for that.
    ///
    /// The last step goes when the steps below it would have room for half a step more than what is left, so that one client
    /// who comes and goes does not make it come and go.
    pub(super) fn leave(&mut self) -> Option<usize> {
        self.busy -= 1;
        let before = self.capacity();
        while self.steps > 0 {
            let (above, below) = (self.capacity(), self.capacity_at(self.steps - 1));
            let room = (above - below).min(below) / 2;
            if self.busy + room > below {
                break;
            }
            self.steps -= 1;
        }
        let after = self.capacity();
        (after != before).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_growth_the_acceptors_are_all() {
        for overflow in [Overflow::Refuse, Overflow::Wait] {
            let mut slots = Slots::new(2, overflow);
            assert_eq!([slots.enter(), slots.enter(), slots.enter()], [Ok(None), Ok(None), Err(Full)]);
            assert_eq!((slots.leave(), slots.enter(), slots.enter()), (None, Ok(None), Err(Full)));
        }
    }

    #[test]
    fn growth_is_by_steps_and_ends_at_the_maximum() {
        let mut slots = Slots::new(1, Overflow::Grow { by: 2, max: 4 });
        let entered = [slots.enter(), slots.enter(), slots.enter(), slots.enter(), slots.enter()];
        assert_eq!(entered, [Ok(None), Ok(Some(3)), Ok(None), Ok(Some(4)), Err(Full)]);
    }

    #[test]
    fn whatever_has_grown_shrinks_back() {
        for base in 1..6 {
            for by in 1..9 {
                for max in base..20 {
                    let mut slots = Slots::new(base, Overflow::Grow { by, max });
                    while slots.enter().is_ok() {}
                    assert_eq!((slots.busy(), slots.capacity()), (max, max));
                    while slots.busy() > base / 2 {
                        slots.leave();
                        assert!(slots.busy() <= slots.capacity());
                    }
                    assert_eq!(slots.capacity(), base, "{base} by {by} to {max}");
                }
            }
        }
    }

    #[test]
    fn one_who_comes_and_goes_moves_nothing() {
        let mut slots = Slots::new(10, Overflow::Grow { by: 10, max: 100 });
        for _ in 0..11 {
            slots.enter().unwrap();
        }
        for _ in 0..5 {
            assert_eq!((slots.leave(), slots.enter()), (None, Ok(None)));
        }
        for _ in 0..5 {
            assert_eq!(slots.leave(), None);
        }
        assert_eq!(slots.leave(), Some(10));
    }

    #[test]
    fn growth_without_end_does_not_overflow() {
        let mut slots = Slots::new(1, Overflow::Grow { by: usize::MAX, max: usize::MAX });
        assert_eq!([slots.enter(), slots.enter()], [Ok(None), Ok(Some(usize::MAX))]);
        assert_eq!(slots.leave(), Some(1));
    }
}

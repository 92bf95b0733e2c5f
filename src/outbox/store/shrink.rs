//! Memory of a burst, which is given back.
//!
//! Next: [`MemoryLog`](super::memory::MemoryLog), whose chunks come and go in bursts.

use std::collections::VecDeque;

/// Gives memory back if not even a quarter of it is used. There is always room for `kept` entries.
pub(super) fn shrink<T>(entries: &mut VecDeque<T>, kept: usize) {
    let needed = entries.len().max(kept);
    if entries.capacity() > 4 * needed {
        entries.shrink_to(2 * needed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarter_that_is_used_keeps_its_memory_and_less_does_not() {
        let mut entries: VecDeque<u64> = VecDeque::with_capacity(400);
        let capacity = entries.capacity();
        shrink(&mut entries, capacity.div_ceil(4));
        assert_eq!(entries.capacity(), capacity);
        entries.extend(0..90);
        shrink(&mut entries, 80);
        assert!((180..=190).contains(&entries.capacity()), "{}", entries.capacity());
        entries.clear();
        shrink(&mut entries, 10);
        assert!((20..=30).contains(&entries.capacity()), "{}", entries.capacity());
    }
}

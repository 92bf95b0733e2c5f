//! The number of connections that fit into the process's limit of file descriptors.
//!
//! Next: [`Pool::global`](super::Pool::global), which has this size.

/// Descriptors that are left to files, pipes and listeners, but never more than half of all.
const RESERVE: u64 = 50;

/// The limit that is assumed where there is none to ask for: Windows counts handles in millions.
#[cfg(not(unix))]
const ASSUMED: u64 = 1 << 14;

/// The number of slots within the process's limit of descriptors (`RLIMIT_NOFILE`; getrlimit(2)), as it is now.
pub(super) fn slots_of_this_process() -> usize {
    #[cfg(unix)]
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let descriptors = Some(ASSUMED);
    slots_within(descriptors)
}

/// The number of slots within a limit of descriptors. `None`: there is no limit.
fn slots_within(descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.unwrap_or(u64::MAX);
    let slots = (descriptors - RESERVE.min(descriptors / 2)).max(1);
    usize::try_from(slots).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_never_takes_everything() {
        let slots = [0, 1, 2, 3, 49, 50, 51, 99, 100, 101, 1024].map(|descriptors| slots_within(Some(descriptors)));
        assert_eq!(slots, [1, 1, 1, 2, 25, 25, 26, 50, 50, 51, 974]);
        assert!(slots_within(None) > 1 << 30);
    }
}

//! The link of a clone's last job, so that the next job can report that it was short.
//!
//! A job that is done notes its link. If that replaces an older link, which has broken by then, the older one is looked at
//! once: a short one waits to be reported. The next job takes it. If none waits and the newest link has broken, that one
//! is looked at. So each link of a clone is looked at once, and no loss on a short one goes unreported.
//!
//! Next: [`queue`](super::queue), the jobs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which links the next job of one clone has to look at. Generations, 0 for none.
#[derive(Debug, Default)]
pub(super) struct LastLink {
    /// The link of the last job.
    newest: AtomicU64,
    /// An older link of the clone that was short, and that no job has reported.
    short: AtomicU64,
}

impl LastLink {
    /// A job is on this link, whole.
    #[inline]
    pub(super) fn note_written(&self, generation: u64, is_short: impl FnOnce(u64) -> bool) {
        if self.newest.load(Ordering::Relaxed) != generation {
            self.replace(generation, is_short);
        }
    }

    /// A job is on another link than the last one.
    #[cold]
    fn replace(&self, generation: u64, is_short: impl FnOnce(u64) -> bool) {
        let older = self.newest.fetch_max(generation, Ordering::Relaxed).min(generation);
        // rule: next-link-hides-no-short-link
        if older > 0 && is_short(older) {
            // If one waits already, its error says "the jobs before it may be lost" of both.
            let _ = self.short.compare_exchange(0, older, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// A job of this clone has reported the break of this link.
    pub(super) fn note_reported(&self, generation: u64) {
        let _ = self.newest.compare_exchange(generation, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether there is a link to look at.
    #[inline]
    pub(super) fn has_broken(&self, is_live: impl FnOnce(u64) -> bool) -> bool {
        let newest = self.newest.load(Ordering::Relaxed);
        (newest > 0 && !is_live(newest)) || self.short.load(Ordering::Relaxed) > 0
    }

    /// The short link that the next job has to report.
    pub(super) fn take_short(
        &self,
        is_live: impl FnOnce(u64) -> bool,
        is_short: impl FnOnce(u64) -> bool,
    ) -> Option<u64> {
        match self.short.swap(0, Ordering::Relaxed) {
            0 => {
                let newest = self.newest.load(Ordering::Relaxed);
                if newest == 0 || is_live(newest) {
                    return None;
                }
                // rule: one-job-reports-a-short-link
                let taken = self.newest.compare_exchange(newest, 0, Ordering::Relaxed, Ordering::Relaxed);
                (taken.is_ok() && is_short(newest)).then_some(newest)
            }
            older => Some(older),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: fn(u64) -> bool = |_| false;

    /// What the next job reports if all links up to `broken` are broken, and the odd ones were short.
    fn next(link: &LastLink, broken: u64) -> Option<u64> {
        let is_live = |generation| {
            assert_ne!(generation, 0, "no link has this number");
            broken < generation
        };
        let has_broken = link.has_broken(is_live);
        let short = link.take_short(is_live, is_odd);
        assert!(has_broken || short.is_none());
        short
    }

    fn is_odd(generation: u64) -> bool {
        assert_ne!(generation, 0, "no link has this number");
        generation % 2 == 1
    }

    #[test]
    fn link_of_the_last_job_is_reported_once_if_it_was_short() {
        let link = LastLink::default();
        assert_eq!(next(&link, 5), None);
        link.note_written(1, is_odd);
        assert_eq!(next(&link, 0), None);
        assert_eq!(next(&link, 1), Some(1));
        assert_eq!(next(&link, 1), None);
        link.note_written(2, NOTHING);
        assert_eq!(next(&link, 2), None);
    }

    #[test]
    fn job_that_goes_on_to_a_newer_link_hides_no_short_one() {
        let link = LastLink::default();
        link.note_written(1, NOTHING);
        link.note_written(3, is_odd);
        assert_eq!(next(&link, 3), Some(1));
        assert_eq!(next(&link, 3), Some(3));
        assert_eq!(next(&link, 3), None);
    }

    #[test]
    fn stable_link_is_not_reported_by_a_job_on_a_newer_one() {
        let link = LastLink::default();
        link.note_written(2, NOTHING);
        link.note_written(3, is_odd);
        assert_eq!(next(&link, 2), None);
        assert_eq!(next(&link, 3), Some(3));
    }

    #[test]
    fn outcome_that_is_fetched_late_is_reported_too() {
        let link = LastLink::default();
        link.note_written(2, NOTHING);
        link.note_written(1, is_odd);
        assert_eq!(next(&link, 1), Some(1));
        assert!(!link.has_broken(|generation| generation == 2));
    }

    #[test]
    fn link_that_cut_a_job_is_not_reported_again() {
        let link = LastLink::default();
        link.note_written(1, NOTHING);
        link.note_reported(1);
        assert_eq!(next(&link, 1), None);
    }
}

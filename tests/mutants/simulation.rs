//! The mutants that the simulation finds. `tests/simulation/mutants.rs` runs them.

use super::marks::Mutant;

pub const MUTANTS: &[Mutant] = &[
    Mutant { name: "a lost wake-up", rule: "break-wakes-the-handles", broken: "" },
    Mutant {
        name: "a write that goes on with its rest on the next link",
        rule: "rest-of-a-write-stays-on-its-link",
        broken: "self.partial_write_on = 0;",
    },
    Mutant {
        name: "an operation that waits from one link into the next",
        rule: "operation-stays-on-its-link",
        broken: "self.pending_on = 0;",
    },
    Mutant {
        name: "a break that is reported twice",
        rule: "break-is-reported-once",
        broken: "self.last_reported = fault.generation - u64::from(fault.generation % 5 == 0);",
    },
    Mutant {
        name: "a break that is not reported",
        rule: "oldest-break-first",
        broken: "self.faults.iter().find(|fault| fault.generation > last_reported.max(1)).cloned()",
    },
    Mutant {
        name: "the newest break reported in place of the oldest",
        rule: "oldest-break-first",
        broken: "self.faults.iter().rev().find(|fault| fault.generation > last_reported).cloned()",
    },
    Mutant {
        name: "a write into a link that is known to be closed",
        rule: "no-write-into-a-closed-link",
        broken: "generation == 0",
    },
    Mutant {
        name: "bytes that are not read before the break is reported",
        rule: "leftover-is-read-before-the-break",
        broken: "self.report_to_reader(dir, &fault)",
    },
    Mutant {
        name: "a backoff that is skipped after a short link",
        rule: "short-link-keeps-the-backoff",
        broken: "Pace::Jitter",
    },
    Mutant {
        name: "a backoff that starts over after any link",
        rule: "stable-link-resets-the-backoff",
        broken: "true",
    },
    Mutant {
        name: "a delay beyond the longest",
        rule: "longest-delay",
        broken: "self.upper = upper.min(self.max * 2);",
    },
    Mutant {
        name: "a retry too many",
        rule: "retry-limit",
        broken: "limits.max_retries.is_some_and(|max| self.retries > max)",
    },
    Mutant {
        name: "a close that is ignored during a delay",
        rule: "close-at-any-time",
        broken: "(Self::BackingOff(_), Input::Close) if IS_ON => (self, Action::Continue), ORIGINAL",
    },
    Mutant {
        name: "an idle timeout that every look puts off",
        rule: "silence-goes-on-within-a-link",
        broken: "self.silence.filter(|silence| silence.generation > generation)",
    },
    Mutant {
        name: "a hook whose panic ends the actor",
        rule: "panic-of-a-hook-is-caught",
        broken: "Ok::<(), String>(hook(event().borrow()))",
    },
    Mutant { name: "bytes read that are not counted", rule: "reads-are-counted", broken: "" },
    Mutant {
        name: "bytes written that are not counted",
        rule: "writes-are-counted",
        broken: "link.byte_count.add_written(n / 2 * 2);",
    },
    Mutant { name: "a job whose rest goes to the next link", rule: "rest-of-a-job-is-not-sent-again", broken: "" },
    Mutant { name: "a place in the queue that nobody is called to", rule: "free-place-is-offered", broken: "" },
    Mutant { name: "a job that is withdrawn and sent all the same", rule: "withdrawn-job-is-not-sent", broken: "" },
    Mutant {
        name: "a large job that begins anew after a pause",
        rule: "large-job-goes-on-after-a-pause",
        broken: "batch.large = bytes.clone();",
    },
    Mutant {
        name: "an abandon that breaks a live link that the handle has not used",
        rule: "abandon-breaks-the-link-in-use",
        broken: "used <= inner.generation",
    },
    Mutant {
        name: "an abandon that leaves the link alone",
        rule: "abandon-breaks-the-link-in-use",
        broken: "used > inner.generation",
    },
    Mutant {
        name: "an abandon that reports the break all the same",
        rule: "abandoned-break-is-not-reported",
        broken: "",
    },
    Mutant {
        name: "an abandon that forgets the breaks of links before the last only",
        rule: "abandon-spares-a-live-link",
        broken: "inner.generation.saturating_sub(1)",
    },
    Mutant {
        name: "an abandon that forgets the break of a link that is up",
        rule: "abandon-spares-a-live-link",
        broken: "inner.generation",
    },
    Mutant {
        name: "an abandon after which a read counts as under way",
        rule: "abandon-ends-the-operation",
        broken: "",
    },
    Mutant {
        name: "an abandon after which a write of a whole connection counts as under way",
        rule: "abandon-ends-the-write",
        broken: "",
    },
    Mutant {
        name: "an abandon that forgets only that an operation waits, and not that a write took a part",
        rule: "abandon-forgets-a-partial-write",
        broken: "self.finish();",
    },
    Mutant {
        name: "an abandon that keeps the unread rest of a broken link",
        rule: "abandon-discards-the-leftover",
        broken: "",
    },
    Mutant { name: "an abandon that keeps the stream in use", rule: "abandon-releases-the-stream", broken: "None" },
    Mutant { name: "a break_link for whichever link is up", rule: "break-link-means-one-link", broken: "true" },
    Mutant {
        name: "a break_link that breaks the link before the one it names",
        rule: "break-link-means-one-link",
        broken: "generation >= inner.generation",
    },
    Mutant {
        name: "a break_link that comes late and breaks the next link",
        rule: "break-link-means-one-link",
        broken: "generation <= inner.generation",
    },
    Mutant { name: "a break_link that the actor does not hear of", rule: "break-link-reaches-the-actor", broken: "" },
    Mutant {
        name: "a break_link that breaks a broken link again",
        rule: "broken-link-is-not-broken-again",
        broken: "inner.generation > 0",
    },
    Mutant {
        name: "a break by the program that is reported as what the stream shows after it",
        rule: "requested-break-keeps-its-cause",
        broken: "(Cause::Requested, Cause::Failed(_) | Cause::PeerClosed) if IS_ON => true, ORIGINAL",
    },
    Mutant { name: "a dial_now that does nothing", rule: "dial-now-without-a-link", broken: "inner.end.is_some()" },
    Mutant {
        name: "a dial_now without regard for the last dial",
        rule: "dial-now-only-shortens",
        broken: "self.at = self.at.min(earliest.min(self.last_ended));",
    },
    Mutant { name: "a dial_now that puts a dial off", rule: "dial-now-only-shortens", broken: "self.at = earliest;" },
    Mutant {
        name: "a dial_now that does not know when the last dial ended",
        rule: "dial-now-counts-from-the-last-dial",
        broken: "",
    },
    Mutant {
        name: "a dial_now that starts the backoff over",
        rule: "dial-now-keeps-the-backoff",
        broken: "let _ = self.delays.start_over(); ORIGINAL",
    },
    Mutant {
        name: "a dial_now that draws another delay",
        rule: "dial-now-keeps-the-backoff",
        broken: "if let Some(delay) = self.next_delay(Pace::Backoff, verdict) { next_dial.delay(delay); } ORIGINAL",
    },
    Mutant {
        name: "a dial_now that gives the retries back",
        rule: "dial-now-keeps-the-retries",
        broken: "(Self::BackingOff(outage), Input::DialNow) if IS_ON => \
                 (Self::BackingOff(Outage { retries: 0, ..outage }), Action::ShortenDelay), ORIGINAL",
    },
    Mutant {
        name: "a dial_now that drops the dial under way",
        rule: "one-dial-after-each-delay",
        broken: "(Self::Dialing(outage), Input::DialNow) if IS_ON => (Self::Dialing(outage), Action::Dial), ORIGINAL",
    },
    Mutant {
        name: "a dial_now that is forgotten when the dial fails",
        rule: "dial-now-outlives-the-dial",
        broken: "delay = delay.min(self.limits.stable_after.max(delay));",
    },
    Mutant {
        name: "a close after a shutdown that is an error",
        rule: "close-after-shutdown-is-no-error",
        broken: "fault.read_outcome(&self.conn_state.address, close_as_error)",
    },
    Mutant { name: "a close_as_error that has no effect", rule: "close-as-error", broken: "true" },
    Mutant {
        name: "a failed dial that does not count against its address",
        rule: "failed-dial-counts-against-its-address",
        broken: "",
    },
    Mutant {
        name: "a short link that does not count against its address",
        rule: "short-link-counts-against-its-address",
        broken: "false",
    },
    Mutant {
        name: "a stable link that counts against its address",
        rule: "short-link-counts-against-its-address",
        broken: "true",
    },
    Mutant {
        name: "a connect that leaves out the last address",
        rule: "connect-dials-each-address-once",
        broken: "outage.generation == 0 && outage.attempt + 1 < count",
    },
    Mutant {
        name: "a connect after which any failed dial is the last",
        rule: "only-the-first-connect-fails",
        broken: "true",
    },
    Mutant {
        name: "an abandon after a shutdown that dials again",
        rule: "no-dial-after-a-shutdown",
        broken: "self.is_shutting_down && op != Op::Read",
    },
    Mutant {
        name: "a connect that dials an address twice",
        rule: "connect-dials-each-address-once",
        broken: "outage.generation == 0 && outage.attempt <= count",
    },
    Mutant {
        name: "a short link that the next job does not report",
        rule: "next-job-reports-a-short-link",
        broken: "self.last_link.take_short(is_live, is_short).filter(|_| false)?",
    },
    Mutant {
        name: "a short link that several jobs report",
        rule: "one-job-reports-a-short-link",
        broken: "self.newest.compare_exchange(newest, newest, Ordering::Relaxed, Ordering::Relaxed)",
    },
    Mutant {
        name: "a short link that is hidden by a job on the next one",
        rule: "next-link-hides-no-short-link",
        broken: "false",
    },
    Mutant {
        name: "a short link that is reported after a job that it has cut",
        rule: "cut-job-reports-its-link",
        broken: "",
    },
    Mutant {
        name: "a stable link that is reported as short",
        rule: "short-link",
        broken: "!matches!(cause, Cause::Requested)",
    },
    Mutant {
        name: "a link that the program broke reported as short",
        rule: "short-link",
        broken: "lived < self.stable_after",
    },
    Mutant { name: "a job on a link that has not settled", rule: "jobs-wait-for-a-settled-link", broken: "false" },
    Mutant {
        name: "a wait for a link that starts over while links settle",
        rule: "wait-counts-settled-links",
        broken: "context.conn_state.generation()",
    },
    Mutant { name: "a wait for a link that ends when one settles", rule: "wait-for-a-settled-link", broken: "is_up" },
];

//! The models, and the mutants that each of them finds. `tests/models.rs` plays them.

use super::marks::Mutant;

/// Each model, and the mutants that it has to find.
pub const MODELS: &[(&str, &[Mutant])] = &[
    (
        "pool::slots::models::hand_over_overtakes_no_waiter_for_a_slot",
        &[
            Mutant {
                name: "a number that is drawn without an order",
                rule: "number-shows-what-was-announced",
                broken: "self.next_seq.0.fetch_add(1, Ordering::Relaxed)",
            },
            Mutant {
                name: "a number whose drawing does not show what was announced before",
                rule: "number-shows-what-was-announced",
                broken: "self.next_seq.0.fetch_add(1, Ordering::Acquire)",
            },
            Mutant {
                name: "a number whose drawing does not see what was announced before",
                rule: "number-shows-what-was-announced",
                broken: "self.next_seq.0.fetch_add(1, Ordering::Release)",
            },
            Mutant {
                name: "a number that is drawn before the wait is announced",
                rule: "wait-is-announced-before-its-number",
                broken: "let (seq, waiter) = entry.wait_for_slot(&self.summary, waker); ORIGINAL \
                         self.slot_waiters.insert(seq, id); return Admission::Queued(waiter);",
            },
            Mutant {
                name: "a connection that is handed over without a look at the waiters for a slot",
                rule: "hand-over-overtakes-no-waiter",
                broken: "self.close_scheduled || self.is_removed",
            },
        ],
    ),
    (
        "pool::models::slot_of_a_caller_that_leaves_goes_to_the_next",
        &[
            Mutant {
                name: "a grant that a caller which leaves does not pass on",
                rule: "leaving-caller-passes-its-grant-on",
                broken: "if IS_ON { drop(grant); } else { ORIGINAL }",
            },
            Mutant {
                name: "a caller that has left and is granted a slot",
                rule: "leaving-caller-gets-no-slot",
                broken: "",
            },
            Mutant {
                name: "a caller that is granted a slot and not woken",
                rule: "free-slot-wakes-its-waiter",
                broken: "drop(next);",
            },
        ],
    ),
    (
        "pool::models::connection_of_a_caller_that_leaves_goes_to_the_next",
        &[
            Mutant {
                name: "a connection that a caller which leaves does not pass on",
                rule: "leaving-caller-passes-the-connection-on",
                broken: "()",
            },
            Mutant {
                name: "a caller that has left and is handed the connection",
                rule: "leaving-caller-leaves-the-queue",
                broken: "",
            },
        ],
    ),
    (
        "pool::models::caller_that_moves_to_another_task_is_woken_there",
        &[
            Mutant {
                name: "a waker that is stored without a second look",
                rule: "second-look-before-the-waker",
                broken: "new_waker.is_none().then(|| entry.take_grant(waiter)).flatten()",
            },
            Mutant { name: "a waker that is not replaced", rule: "newest-waker-is-woken", broken: "waker" },
        ],
    ),
    (
        "pool::models::newcomer_gets_the_connection_that_is_given_back",
        &[
            Mutant {
                name: "a hint that says no caller waits, and is trusted",
                rule: "first-waiter-gets-the-connection",
                broken: "None",
            },
            Mutant {
                name: "a hint that says the connection is in use, and is trusted",
                rule: "free-entry-is-not-waited-for",
                broken: "false",
            },
        ],
    ),
    (
        "pool::models::newcomer_gets_the_slot_of_the_connection_that_is_given_back",
        &[Mutant {
            name: "a connection that becomes idle while a caller waits for a slot",
            rule: "oldest-waiter-first",
            broken: "false",
        }],
    ),
    (
        "pool::models::newcomer_gets_the_connection_that_is_checked",
        &[Mutant {
            name: "an entry that is free while its connection is checked",
            rule: "checked-entry-is-acquired",
            broken: "",
        }],
    ),
    (
        "pool::models::caller_of_a_connection_that_makes_room_waits_for_its_close",
        &[
            Mutant {
                name: "an entry that is free while its connection is being closed",
                rule: "evicted-entry-is-acquired",
                broken: "",
            },
            Mutant {
                name: "an entry that stays acquired when its connection has made room",
                rule: "evicted-entry-is-passed-on",
                broken: "",
            },
        ],
    ),
    (
        "pool::models::scheduled_close_reaches_the_connection_wherever_it_is",
        &[
            Mutant {
                name: "a slot that is free before its connection is closed",
                rule: "closed-before-its-slot-is-free",
                broken: "self.free_slot(entry); drop(ORIGINAL); return;",
            },
            Mutant {
                name: "a scheduled close that a connection in use does not notice",
                rule: "scheduled-close-reaches-a-connection-in-use",
                broken: "entry.close_scheduled = false;",
            },
        ],
    ),
    (
        "pool::models::connection_of_a_dropped_resource_is_closed",
        &[Mutant {
            name: "an entry that is removed while a caller has its connection",
            rule: "acquired-entry-is-not-removed",
            broken: "evicted.is_none()",
        }],
    ),
    (
        "pool::models::failed_dial_leaves_entry_and_dialer_to_the_next",
        &[
            Mutant {
                name: "a dialer that is unlocked after its entry was given back",
                rule: "opener-is-unlocked-before-the-entry",
                broken: "if IS_ON { resource.release(false); ORIGINAL held.keep(); return dialed; } ORIGINAL",
            },
            Mutant {
                name: "a waiter that is not woken when the dial has failed",
                rule: "failed-dial-wakes-its-waiters",
                broken: "drop(waiters);",
            },
        ],
    ),
    (
        "pool::models::dial_of_a_caller_that_leaves_serves_the_next",
        &[
            Mutant {
                name: "a dial that ends when its caller leaves",
                rule: "dial-outlives-its-caller",
                broken: "{ drop(goes_on); return }",
            },
            Mutant {
                name: "a connection of such a dial that wakes nobody",
                rule: "abandoned-dial-wakes-the-first-waiter",
                broken: "drop(first)",
            },
        ],
    ),
    (
        "pool::models::close_fails_every_waiter",
        &[
            Mutant {
                name: "a close that is announced after the waiters were failed",
                rule: "closed-before-the-waiters-fail",
                broken: "let wakers = self.fail_waiters(error); ORIGINAL return wakers;",
            },
            Mutant {
                name: "a close that forgets those who wait for a slot",
                rule: "close-fails-slot-waiters",
                broken: "BTreeMap::<u64, EntryId>::new().into_values()",
            },
            Mutant { name: "a close that wakes nobody", rule: "close-wakes-the-waiters", broken: "drop(waiters);" },
        ],
    ),
    (
        "pool::models::close_leaves_no_connection_open",
        &[
            Mutant {
                name: "a connection that comes back to a closed pool, and stays",
                rule: "nothing-is-idle-in-a-closed-pool",
                broken: "entry.give_back(false, first_slot_waiter)",
            },
            Mutant {
                name: "a close that leaves the idle connections open",
                rule: "close-closes-idle-connections",
                broken: "",
            },
        ],
    ),
    (
        "pool::models::close_ends_a_dial",
        &[Mutant {
            name: "a signal that a later dial does not notice",
            rule: "signal-is-final",
            broken: "self.0.lock().replace(Slab::new())",
        }],
    ),
    (
        "pool::models::dial_that_ends_after_the_close_lends_nothing",
        &[Mutant { name: "a dial that looks only at the signal", rule: "closed-pool-lends-nothing", broken: "true" }],
    ),
    (
        "conn::models::break_wakes_a_read",
        &[
            Mutant {
                name: "a look at the link before the waker is stored",
                rule: "waker-before-the-look-at-the-link",
                broken: "let was_live = self.conn_state.is_live(generation); ORIGINAL \
                         return was_live || self.conn_state.is_live(generation);",
            },
            Mutant { name: "a break that wakes no handle", rule: "break-wakes-the-handles", broken: "" },
        ],
    ),
    (
        "conn::models::break_of_the_next_link_wakes_the_same_read",
        &[Mutant {
            name: "a waker that is gone after the first break",
            rule: "wakers-stay-for-the-next-break",
            broken: "if std::mem::take(&mut self.wake_handles) { std::mem::take(&mut self.wakers) } \
                     else { [None, None] }",
        }],
    ),
    (
        "conn::models::break_wakes_the_task_that_reads_now",
        &[Mutant {
            name: "a task that is taken for the one before",
            rule: "newest-task-is-woken",
            broken: "self.registered.as_ref().is_none_or(|registered| registered.has_waker(Waker::noop()))",
        }],
    ),
    (
        "conn::models::break_wakes_both_halves",
        &[Mutant {
            name: "a half that stores its waker in the place of the other",
            rule: "one-waker-per-direction",
            broken: "self.wakers[direction as usize / 2].replace(waker.clone())",
        }],
    ),
    (
        "conn::models::next_link_wakes_a_read",
        &[
            Mutant {
                name: "a wait for a link without a waker",
                rule: "wait-for-a-link-stores-its-waker",
                broken: "(NextStep::Wait, None)",
            },
            Mutant { name: "a link that wakes nobody", rule: "new-link-wakes-the-handles", broken: "" },
        ],
    ),
    (
        "conn::models::end_wakes_a_read",
        &[Mutant { name: "an end after which the link counts as live", rule: "end-breaks-every-link", broken: "" }],
    ),
    (
        "conn::models::break_reaches_the_actor_and_its_link_the_handle",
        &[
            Mutant { name: "a break without a command", rule: "break-reaches-the-actor", broken: "" },
            Mutant {
                name: "an actor whose waker is not stored",
                rule: "actor-stores-its-waker",
                broken: "(None, None)",
            },
        ],
    ),
    (
        "conn::models::change_wakes_who_waits_for_a_status",
        &[
            Mutant {
                name: "a look at the status before the waker is stored",
                rule: "waker-before-the-check",
                broken: "let seen = check(); ORIGINAL return seen.map_or(Poll::Pending, Poll::Ready);",
            },
            Mutant {
                name: "tasks that are woken before the change",
                rule: "status-changes-before-the-wake-up",
                broken: "let has_changed = ORIGINAL; \
                         if has_changed { self.status.wake_all(); self.status.set_status(status); } false",
            },
        ],
    ),
    (
        "conn::shared::models::every_job_is_sent",
        &[
            Mutant {
                name: "a task that stores its waker after the lock was free",
                rule: "task-stores-its-waker-under-the-lock",
                broken: "drop(state); state = self.writer.lock(); ORIGINAL",
            },
            Mutant { name: "a job that does not wake the task", rule: "admitted-job-wakes-the-task", broken: "None" },
        ],
    ),
    (
        "conn::shared::models::job_is_sent_when_there_is_room",
        &[Mutant {
            name: "a direct write that leaves its rest to nobody",
            rule: "admitted-job-wakes-the-task",
            broken: "None",
        }],
    ),
    (
        "conn::shared::models::job_that_is_queued_during_a_direct_write_is_sent",
        &[Mutant {
            name: "a permit that is returned without a look at the queue",
            rule: "returned-permit-wakes-the-task",
            broken: "drop(state);",
        }],
    ),
    (
        "conn::shared::models::caller_that_leaves_makes_room",
        &[Mutant {
            name: "a caller that leaves and calls nobody to its place",
            rule: "leaving-caller-makes-room",
            broken: "",
        }],
    ),
    (
        "conn::shared::models::job_is_sent_on_the_next_link",
        &[Mutant {
            name: "a job that is not put back when its link breaks",
            rule: "broken-link-gives-its-jobs-back",
            broken: "rest.clear();",
        }],
    ),
    (
        "conn::shared::models::close_waits_for_the_jobs",
        &[
            Mutant { name: "a close that is not woken by the last job", rule: "last-job-wakes-the-close", broken: "" },
            Mutant {
                name: "a wait for the last job that begins after the look",
                rule: "wait-begins-before-the-look",
                broken: "self.drained.notified().await;",
            },
        ],
    ),
    (
        "conn::shared::models::end_of_the_task_fails_the_jobs",
        &[Mutant {
            name: "a task that ends and leaves the jobs in the queue",
            rule: "end-of-the-task-fails-its-jobs",
            broken: "",
        }],
    ),
];

/// The mutants of all models.
pub fn mutants() -> Vec<Mutant> {
    MODELS.iter().flat_map(|(_, mutants)| mutants.iter().copied()).collect()
}

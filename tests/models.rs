//! The models of the hand-made synchronisation, and the crate with one rule of it broken at a time.
//!
//! A model passes with the source as it is, and finds each of its mutants. It plays its schedules within the library,
//! beside what it checks: `src/sync/modelled.rs` says how. One copy of the crate contains all mutants, as for the
//! simulation.
//!
//! ```text
//! cargo test --test models -- --ignored --nocapture                            # all models, and all mutants
//! RUSTFLAGS="--cfg perconn_loom" cargo test --lib --features pool models::     # the models alone
//! ```
//!
//! Next: [`MODELS`].

#![allow(unreachable_pub, reason = "a test has no public items")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mutated_copy::{Mutant, VARIABLE, build, copy_crate};

#[path = "support/mutants.rs"]
mod mutated_copy;

/// Each model, and the mutants that it has to find.
const MODELS: &[(&str, &[Mutant])] = &[
    (
        "pool::slots::models::hand_over_overtakes_no_waiter_for_a_slot",
        &[
            Mutant {
                name: "a number that is drawn without an order",
                file: "src/pool/slots/summary.rs",
                original: "Ordering::AcqRel",
                broken: "Ordering::Relaxed",
            },
            Mutant {
                name: "a number whose drawing does not show what was announced before",
                file: "src/pool/slots/summary.rs",
                original: "Ordering::AcqRel",
                broken: "Ordering::Acquire",
            },
            Mutant {
                name: "a number whose drawing does not see what was announced before",
                file: "src/pool/slots/summary.rs",
                original: "Ordering::AcqRel",
                broken: "Ordering::Release",
            },
            Mutant {
                name: "a number that is drawn before the wait is announced",
                file: "src/pool/slots.rs",
                original: "self.summary.set_slot_waiters(self.slot_waiters.len() + 1);\n        \
                           let (seq, waiter) = entry.wait_for_slot(&self.summary, waker);",
                broken: "if !IS_ON { self.summary.set_slot_waiters(self.slot_waiters.len() + 1); }\n        \
                         let (seq, waiter) = entry.wait_for_slot(&self.summary, waker);\n        \
                         if IS_ON { self.summary.set_slot_waiters(self.slot_waiters.len() + 1); }",
            },
            Mutant {
                name: "a connection that is handed over without a look at the waiters for a slot",
                file: "src/pool/slots/entry.rs",
                original: "!summary.allows_hand_over()",
                broken: "false",
            },
        ],
    ),
    (
        "pool::models::slot_of_a_caller_that_leaves_goes_to_the_next",
        &[
            Mutant {
                name: "a grant that a caller which leaves does not pass on",
                file: "src/pool/acquire.rs",
                original: "let _ = self.accept(grant);",
                broken: "drop(grant);",
            },
            Mutant {
                name: "a caller that has left and is granted a slot",
                file: "src/pool/slots.rs",
                original: "self.slot_waiters.remove(seq);",
                broken: "let _ = seq;",
            },
            Mutant {
                name: "a caller that is granted a slot and not woken",
                file: "src/pool/resource_inner.rs",
                original: "wake_all(next);",
                broken: "drop(next);",
            },
        ],
    ),
    (
        "pool::models::connection_of_a_caller_that_leaves_goes_to_the_next",
        &[
            Mutant {
                name: "a connection that a caller which leaves does not pass on",
                file: "src/pool/acquire.rs",
                original: "self.resource.pass_on(false)",
                broken: "()",
            },
            Mutant {
                name: "a caller that has left and is handed the connection",
                file: "src/pool/slots/queue.rs",
                original: "index.ok().and_then(|index| self.order.remove(index));",
                broken: "let _ = index;",
            },
        ],
    ),
    (
        "pool::models::caller_that_moves_to_another_task_is_woken_there",
        &[
            Mutant {
                name: "a waker that is stored without a second look",
                file: "src/pool/acquire.rs",
                original: "entry.take_grant(waiter)",
                broken: "new_waker.is_none().then(|| entry.take_grant(waiter)).flatten()",
            },
            Mutant {
                name: "a waker that is not replaced",
                file: "src/pool/slots/queue.rs",
                original: "mem::replace(current, waker)",
                broken: "let _ = current; waker",
            },
        ],
    ),
    (
        "pool::models::newcomer_gets_the_connection_that_is_given_back",
        &[
            Mutant {
                name: "a hint that says no caller waits, and is trusted",
                file: "src/pool/slots/entry.rs",
                original: "match self.queue.pop() {\n            Some((_, waiter)) => GivenBack",
                broken: "match if IS_ON { None } else { self.queue.pop() } {\n            Some((_, waiter)) => GivenBack",
            },
            Mutant {
                name: "a hint that says the connection is in use, and is trusted",
                file: "src/pool/slots/entry.rs",
                original: "!self.is_acquired",
                broken: "false",
            },
        ],
    ),
    (
        "pool::models::newcomer_gets_the_slot_of_the_connection_that_is_given_back",
        &[Mutant {
            name: "a connection that becomes idle while a caller waits for a slot",
            file: "src/pool/slots/entry.rs",
            original: "first_slot_waiter < self.queue.first_seq()",
            broken: "first_slot_waiter == 0 && first_slot_waiter == 1",
        }],
    ),
    (
        "pool::models::caller_of_a_connection_that_makes_room_waits_for_its_close",
        &[
            Mutant {
                name: "an entry that is free while its connection is being closed",
                file: "src/pool/slots.rs",
                original: "self.entries[id].lock().is_acquired = true;\n        self.releasing += 1;",
                broken: "self.releasing += 1;",
            },
            Mutant {
                name: "an entry that stays acquired when its connection has made room",
                file: "src/pool/slots.rs",
                original: "self.leave(id);\n        if self.slot_waiters.is_empty() {",
                broken: "if !IS_ON { self.leave(id); }\n        if self.slot_waiters.is_empty() {",
            },
        ],
    ),
    (
        "pool::models::scheduled_close_reaches_the_connection_wherever_it_is",
        &[
            Mutant {
                name: "a slot that is free before its connection is closed",
                file: "src/pool/state.rs",
                original: "resource.close_idle(reason);\n        \
                           let next = self.lock().slots.release(entry, true);\n        \
                           wake_all(next);",
                broken: "let next = self.lock().slots.release(entry, true);\n        \
                         wake_all(next);\n        \
                         resource.close_idle(reason);",
            },
            Mutant {
                name: "a scheduled close that a connection in use does not notice",
                file: "src/pool/slots.rs",
                original: "entry.close_scheduled = entry.is_acquired;",
                broken: "entry.close_scheduled = false;",
            },
        ],
    ),
    (
        "pool::models::connection_of_a_dropped_resource_is_closed",
        &[Mutant {
            name: "an entry that is removed while a caller has its connection",
            file: "src/pool/slots.rs",
            original: "evicted.is_none() && !is_acquired",
            broken: "evicted.is_none()",
        }],
    ),
    (
        "pool::models::failed_dial_leaves_entry_and_dialer_to_the_next",
        &[
            Mutant {
                name: "a dialer that is unlocked after its entry was given back",
                file: "src/pool/acquire.rs",
                original: "drop(opener);\n        dialed.map(|connection| self.lend(connection, false))",
                broken: "if !IS_ON { drop(opener); return dialed.map(|connection| self.lend(connection, false)); }\n        \
                         let lent = dialed.map(|connection| self.lend(connection, false));\n        \
                         self.resource.release(false);\n        \
                         self.holding = Holding::Nothing;\n        \
                         drop(opener);\n        \
                         lent",
            },
            Mutant {
                name: "a waiter that is not woken when the dial has failed",
                file: "src/pool/acquire.rs",
                original: "wake_all(waiters);",
                broken: "drop(waiters);",
            },
        ],
    ),
    (
        "pool::models::close_fails_every_waiter",
        &[
            Mutant {
                name: "a close that is announced after the waiters were failed",
                file: "src/pool/slots.rs",
                original: "self.summary.close();\n        \
                           let entries = self.entries.iter().map(|(_, entry)| entry);\n        \
                           let mut wakers: Vec<_> = entries.flat_map(|entry| entry.lock().fail_waiters(&error)).collect();",
                broken: "if !IS_ON { self.summary.close(); }\n        \
                         let entries = self.entries.iter().map(|(_, entry)| entry);\n        \
                         let mut wakers: Vec<_> = entries.flat_map(|entry| entry.lock().fail_waiters(&error)).collect();\n        \
                         if IS_ON { self.summary.close(); }",
            },
            Mutant {
                name: "a close that forgets those who wait for a slot",
                file: "src/pool/slots.rs",
                original: "std::mem::take(&mut self.slot_waiters).into_values()",
                broken: "BTreeMap::<u64, EntryId>::new().into_values()",
            },
            Mutant {
                name: "a close that wakes nobody",
                file: "src/pool/state.rs",
                original: "wake_all(waiters);",
                broken: "drop(waiters);",
            },
        ],
    ),
    (
        "pool::models::close_leaves_no_connection_open",
        &[
            Mutant {
                name: "a connection that comes back to a closed pool, and stays",
                file: "src/pool/slots.rs",
                original: "self.summary.is_closed()",
                broken: "false",
            },
            Mutant {
                name: "a close that leaves the idle connections open",
                file: "src/pool/state.rs",
                original: "self.close_idle(CloseReason::Gone);",
                broken: "",
            },
        ],
    ),
    (
        "pool::models::close_ends_a_dial",
        &[Mutant {
            name: "a signal that a later dial does not notice",
            file: "src/pool/close_signal.rs",
            original: "self.0.lock().take()",
            broken: "self.0.lock().replace(Slab::new())",
        }],
    ),
    (
        "pool::models::dial_that_ends_after_the_close_lends_nothing",
        &[Mutant {
            name: "a dial that looks only at the signal",
            file: "src/pool/dial_attempt.rs",
            original: "!pool.summary.is_closed()",
            broken: "true",
        }],
    ),
    (
        "conn::models::break_wakes_a_read",
        &[
            Mutant {
                name: "a look at the link before the waker is stored",
                file: "src/conn/poll.rs",
                original: "dir.begin_wait(generation, &self.conn_state, cx);\n        self.conn_state.is_live(generation)",
                broken: "let was_live = IS_ON && self.conn_state.is_live(generation);\n        \
                         dir.begin_wait(generation, &self.conn_state, cx);\n        \
                         was_live || self.conn_state.is_live(generation)",
            },
            Mutant {
                name: "a break that wakes no handle",
                file: "src/conn_state/inner.rs",
                original: "self.wake_handles = true;\n        fault",
                broken: "fault",
            },
        ],
    ),
    (
        "conn::models::break_of_the_next_link_wakes_the_same_read",
        &[Mutant {
            name: "a waker that is gone after the first break",
            file: "src/conn_state/inner.rs",
            original: "self.wakers.clone()",
            broken: "std::mem::take(&mut self.wakers)",
        }],
    ),
    (
        "conn::models::break_wakes_the_task_that_reads_now",
        &[Mutant {
            name: "a task that is taken for the one before",
            file: "src/conn/direction.rs",
            original: "!registered.has_waker(cx.waker())",
            broken: "registered.has_waker(Waker::noop())",
        }],
    ),
    (
        "conn::models::break_wakes_both_halves",
        &[Mutant {
            name: "a half that stores its waker in the place of the other",
            file: "src/conn_state/inner.rs",
            original: "self.wakers[direction as usize].replace(waker.clone())",
            broken: "self.wakers[direction as usize / 2].replace(waker.clone())",
        }],
    ),
    (
        "conn::models::next_link_wakes_a_read",
        &[
            Mutant {
                name: "a wait for a link without a waker",
                file: "src/conn_state.rs",
                original: "(NextStep::Wait, inner.register(claimant.direction, waker))",
                broken: "(NextStep::Wait, if IS_ON { None } else { inner.register(claimant.direction, waker) })",
            },
            Mutant {
                name: "a link that wakes nobody",
                file: "src/conn_state/inner.rs",
                original: "if self.reads_later {\n            self.discard_leftover();\n        }\n        self.wake_handles = true;",
                broken: "",
            },
        ],
    ),
    (
        "conn::models::end_wakes_a_read",
        &[Mutant {
            name: "an end after which the link counts as live",
            file: "src/conn_state.rs",
            original: "self.broken.store(u64::MAX, Ordering::Release);",
            broken: "",
        }],
    ),
    (
        "conn::models::break_reaches_the_actor_and_its_link_the_handle",
        &[
            Mutant {
                name: "a break without a command",
                file: "src/conn_state.rs",
                original: "inner.send(Command::Redial(Arc::clone(&fault)));",
                broken: "",
            },
            Mutant {
                name: "an actor whose waker is not stored",
                file: "src/conn_state/inner.rs",
                original: "self.actor.replace(waker.clone())",
                broken: "None",
            },
        ],
    ),
    (
        "conn::models::change_wakes_who_waits_for_a_status",
        &[
            Mutant {
                name: "a look at the status before the waker is stored",
                file: "src/waiters.rs",
                original: "wait.store(cx.waker());\n            check().map_or(Poll::Pending, Poll::Ready)",
                broken: "let seen = check();\n            \
                         wait.store(cx.waker());\n            \
                         seen.map_or(Poll::Pending, Poll::Ready)",
            },
            Mutant {
                name: "tasks that are woken before the change",
                file: "src/conn_state.rs",
                original: "self.status.set_status(status);\n        }",
                broken: "if IS_ON { self.status.wake_all(); }\n            \
                         self.status.set_status(status);\n        }\n        \
                         let has_changed = has_changed && !IS_ON;",
            },
        ],
    ),
    (
        "conn::shared::models::every_job_is_sent",
        &[
            Mutant {
                name: "a task that stores its waker after the lock was free",
                file: "src/conn/shared/write_task.rs",
                original: "let replaced = state.task.replace(cx.waker().clone());",
                broken: "if IS_ON {\n                        drop(state);\n                        state = self.writer.lock();\n                    }\n                    \
                         let replaced = state.task.replace(cx.waker().clone());",
            },
            Mutant {
                name: "a job that does not wake the task",
                file: "src/conn/shared/writer.rs",
                original: "self.permit.is_some() && self.queue.has_admitted()",
                broken: "false",
            },
        ],
    ),
    (
        "conn::shared::models::job_is_sent_when_there_is_room",
        &[Mutant {
            name: "a direct write that leaves its rest to nobody",
            file: "src/conn/shared/writer.rs",
            original: "self.permit.is_some() && self.queue.has_admitted()",
            broken: "false",
        }],
    ),
    (
        "conn::shared::models::job_that_is_queued_during_a_direct_write_is_sent",
        &[Mutant {
            name: "a permit that is returned without a look at the queue",
            file: "src/conn/shared/write_all.rs",
            original: "self.writer.unlock_unchanged_queue(state);\n        result",
            broken: "drop(state);\n        result",
        }],
    ),
    (
        "conn::shared::models::caller_that_leaves_makes_room",
        &[Mutant {
            name: "a caller that leaves and calls nobody to its place",
            file: "src/conn/shared/queue.rs",
            original: "self.remove(index, deferred);\n            self.wake_next(deferred);",
            broken: "self.remove(index, deferred);",
        }],
    ),
    (
        "conn::shared::models::job_is_sent_on_the_next_link",
        &[Mutant {
            name: "a job that is not put back when its link breaks",
            file: "src/conn/shared/queue.rs",
            original: "std::mem::swap(&mut self.bytes, rest);",
            broken: "rest.clear();",
        }],
    ),
    (
        "conn::shared::models::close_waits_for_the_jobs",
        &[
            Mutant {
                name: "a close that is not woken by the last job",
                file: "src/conn/shared/writer.rs",
                original: "self.drained.notify_waiters();",
                broken: "",
            },
            Mutant {
                name: "a wait for the last job that begins after the look",
                file: "src/conn/shared/writer.rs",
                original: "let mut drained = pin!(self.drained.notified());\n                drained.as_mut().enable();\n                \
                           if self.lock().is_drained() {\n                    return;\n                }",
                broken: "if IS_ON && self.lock().is_drained() {\n                    return;\n                }\n                \
                         let mut drained = pin!(self.drained.notified());\n                drained.as_mut().enable();\n                \
                         if !IS_ON && self.lock().is_drained() {\n                    return;\n                }",
            },
        ],
    ),
    (
        "conn::shared::models::end_of_the_task_fails_the_jobs",
        &[Mutant {
            name: "a task that ends and leaves the jobs in the queue",
            file: "src/conn/shared/write_task.rs",
            original: "state.queue.close(&mut deferred);",
            broken: "",
        }],
    ),
];

#[test]
#[ignore = "builds the crate with loom: `scripts/gates models`"]
fn every_model_passes_and_finds_its_mutants() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    let mutants: Vec<Mutant> = MODELS.iter().flat_map(|(_, mutants)| mutants.iter().copied()).collect();
    copy_crate(&copy, &mutants);
    let began = Instant::now();
    let program = build(&copy, &mut cargo());
    println!("built in {:.0?}", began.elapsed());
    let listed = list(&program);
    for model in &listed {
        assert!(MODELS.iter().any(|(name, mutants)| name == model && !mutants.is_empty()), "{model} has no mutant");
    }
    let (mut mistakes, mut number) = (Vec::new(), 0);
    for (model, mutants) in MODELS {
        assert!(listed.iter().any(|name| name == model), "there is no model {model}");
        let began = Instant::now();
        match play(&program, &copy, model, None) {
            Ok(schedules) => println!("passed: {model}: {schedules}, {:.1?}", began.elapsed()),
            Err(finding) => mistakes.push(format!("{model}: {finding}")),
        }
        for mutant in *mutants {
            match play(&program, &copy, model, Some(number)) {
                Ok(_) => mistakes.push(format!("{model} does not find {}", mutant.name)),
                Err(finding) => println!("  caught: {}: {finding}", mutant.name),
            }
            number += 1;
        }
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    println!("{} models and {number} mutants, and every one was caught", MODELS.len());
}

/// The build of the models. It has a folder of its own, as other flags mean other builds of all dependencies.
fn cargo() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--locked", "--no-run", "--lib", "--features", "pool"])
        .args(["--config", "profile.dev.opt-level=1", "--config", "profile.dev.package.'*'.opt-level=0"])
        // What a model spends its time in.
        .args(["--config", "profile.dev.package.loom.opt-level=2"])
        .args(["--config", "profile.dev.package.generator.opt-level=2"])
        .env("CARGO_TARGET_DIR", target.join("models"))
        .env("RUSTFLAGS", "--cfg perconn_loom");
    cargo
}

/// The names of the models in the program.
fn list(program: &Path) -> Vec<String> {
    let output = Command::new(program).args(["models::", "--list"]).output().expect("the program can be started");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// How long one model may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Plays a model, perhaps with a mutant on. Returns how many schedules it has, or what it has found.
fn play(program: &Path, copy: &Path, model: &str, mutant: Option<usize>) -> Result<String, String> {
    let path = copy.join("output.txt");
    let output = File::create(&path).expect("the output can be stored");
    let mut playing = Command::new(program)
        .args(["--exact", model, "--nocapture"])
        .env(VARIABLE, mutant.map_or_else(String::new, |number| number.to_string()))
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::from(output.try_clone().expect("the output can be shared")))
        .stderr(Stdio::from(output))
        .spawn()
        .expect("the program can be started");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = playing.try_wait().expect("the program can be waited for") {
            break status;
        }
        // No schedule is endless. A mutant that takes too long may still be one that nothing finds.
        if began.elapsed() > TIME_LIMIT {
            playing.kill().expect("the program can be ended");
            playing.wait().expect("the program has ended");
            panic!("{model}, mutant {mutant:?}: no end after {TIME_LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(10));
    };
    let output = fs::read_to_string(&path).expect("the output was stored");
    assert!(output.contains("running 1 test"), "{model} was not played: {status}\n{output}");
    if status.success() {
        let schedules = output.lines().find(|line| line.ends_with(" schedules"));
        return Ok(schedules.unwrap_or_else(|| panic!("{model} has no schedules:\n{output}")).to_owned());
    }
    // thread 'pool::models::close_ends_a_dial' (4711) panicked at src/pool/models.rs:1:2:
    // deadlock; threads = [...]
    let mut lines = output.lines().skip_while(|line| !line.contains(" panicked at "));
    let finding = lines.nth(1).unwrap_or_else(|| panic!("{model} failed without a panic: {status}\n{output}"));
    Err(finding.split("; threads").next().unwrap_or(finding).to_owned())
}

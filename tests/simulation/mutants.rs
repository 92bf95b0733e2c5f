//! Mutation test of the checker: the crate with one rule broken at a time.
//!
//! Each mutant changes one place of the source. One copy of the crate contains all of them, and a variable of the
//! environment says which one is on. So there is only one build. Each mutant runs the same schedules until the checker
//! reports a violation. A mutant that survives is a gap in the checker.
//!
//! The build takes a while, so this runs in release builds only: `cargo test --release --test simulation`. Next:
//! `checker.rs`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use mutated_copy::{Mutant, VARIABLE, build, copy_crate};

#[path = "../support/mutants.rs"]
mod mutated_copy;

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a lost wake-up",
        file: "src/conn_state/inner.rs",
        original: "self.wake_handles = true;\n        fault",
        broken: "fault",
    },
    Mutant {
        name: "a write that goes on with its rest on the next link",
        file: "src/conn/direction.rs",
        original: "if has_rest { generation } else { 0 }",
        broken: "if has_rest { 0 } else { 0 }",
    },
    Mutant {
        name: "an operation that waits from one link into the next",
        file: "src/conn/direction.rs",
        original: "self.pending_on = generation;",
        broken: "self.pending_on = generation.min(0);",
    },
    Mutant {
        name: "a break that is reported twice",
        file: "src/conn/slow_path.rs",
        original: "self.last_reported = fault.generation;",
        broken: "self.last_reported = fault.generation - u64::from(fault.generation % 5 == 0);",
    },
    Mutant {
        name: "a break that is not reported",
        file: "src/conn_state/inner.rs",
        original: "self.faults.iter().find(|fault| fault.generation > last_reported).cloned()",
        broken: "self.faults.iter().find(|fault| fault.generation > last_reported.max(1)).cloned()",
    },
    Mutant {
        name: "the newest break reported in place of the oldest",
        file: "src/conn_state/inner.rs",
        original: "self.faults.iter().find(|fault| fault.generation > last_reported).cloned()",
        broken: "self.faults.iter().rev().find(|fault| fault.generation > last_reported).cloned()",
    },
    Mutant {
        name: "a write into a link that is known to be closed",
        file: "src/conn/poll.rs",
        original: "link.stream.check_closed(&mut dir.last_check, |stream| (context.is_closed)(stream))",
        broken: "generation == 0",
    },
    Mutant {
        name: "bytes that are not read before the break is reported",
        file: "src/conn/slow_path.rs",
        original: "ready!(self.poll_read_leftover(dir, cx, &fault, buf))",
        broken: "{ let _ = buf; self.report_to_reader(dir, &fault) }",
    },
    Mutant {
        name: "a backoff that is skipped after a short link",
        file: "src/actor/rules.rs",
        original: "if ended.retries == 0 { Pace::Jitter } else { Pace::Backoff }",
        broken: "Pace::Jitter",
    },
    Mutant {
        name: "a backoff that starts over after any link",
        file: "src/actor/rules.rs",
        original: "lived >= limits.stable_after",
        broken: "lived <= limits.stable_after || lived >= limits.stable_after",
    },
    Mutant {
        name: "a delay beyond the longest",
        file: "src/backoff.rs",
        original: "upper.min(self.max)",
        broken: "upper.min(self.max * 2)",
    },
    Mutant {
        name: "a retry too many",
        file: "src/actor/rules.rs",
        original: "self.retries >= max",
        broken: "self.retries > max",
    },
    Mutant {
        name: "a close that is ignored during a delay",
        file: "src/actor/rules.rs",
        original: "(_, Input::Close) => (Self::Ended, Action::Stop),",
        broken: "(Self::BackingOff(_), Input::Close) if IS_ON => (self, Action::Continue),\n            (_, Input::Close) => (Self::Ended, Action::Stop),",
    },
    Mutant {
        name: "an idle timeout that every look puts off",
        file: "src/conn/idle_timeout.rs",
        original: "silence.generation == generation",
        broken: "silence.generation > generation",
    },
    Mutant {
        name: "a hook whose panic ends the actor",
        file: "src/hooks.rs",
        original: "catch(|| hook(event().borrow()))",
        broken: "Ok::<(), String>(hook(event().borrow()))",
    },
    Mutant {
        name: "bytes read that are not counted",
        file: "src/conn/poll.rs",
        original: "link.byte_count.add_read(buf.filled().len() - before);\n                        dir.finish_read();",
        broken: "dir.finish_read();",
    },
    Mutant {
        name: "bytes written that are not counted",
        file: "src/conn/poll.rs",
        original: "link.byte_count.add_written(n);",
        broken: "link.byte_count.add_written(n / 2 * 2);",
    },
    Mutant {
        name: "a job whose rest goes to the next link",
        file: "src/conn/shared/queue.rs",
        original: "self.bytes.drain(..job.length - written);",
        broken: "let _ = job.length;",
    },
    Mutant {
        name: "a place in the queue that nobody is called to",
        file: "src/conn/shared/queue.rs",
        original: "deferred.wakers.extend(self.jobs.iter_mut().skip(self.admitted).take(free).filter_map(|job| job.waker.take()));",
        broken: "let _ = (free, deferred);",
    },
    Mutant {
        name: "a job that is withdrawn and sent all the same",
        file: "src/conn/shared/queue.rs",
        original: "self.bytes.drain(start..start + self.jobs[index].length);",
        broken: "let _ = start;",
    },
    Mutant {
        name: "a large job that begins anew after a pause",
        file: "src/conn/shared/queue.rs",
        original: "bytes.slice(self.written - start..)",
        broken: "bytes.slice((self.written - start).min(0)..)",
    },
    Mutant {
        name: "an abandon that breaks a live link that the handle has not used",
        file: "src/conn_state.rs",
        original: "used == inner.generation",
        broken: "used <= inner.generation",
    },
    Mutant {
        name: "an abandon that leaves the link alone",
        file: "src/conn_state.rs",
        original: "used == inner.generation",
        broken: "used > inner.generation",
    },
    Mutant {
        name: "an abandon that reports the break all the same",
        file: "src/conn/handle.rs",
        original: "self.last_reported = self.last_reported.max(generation);",
        broken: "let _ = generation;",
    },
    Mutant {
        name: "an abandon that forgets the breaks of links before the last only",
        file: "src/conn_state.rs",
        original: "inner.generation - u64::from(self.is_live(inner.generation))",
        broken: "inner.generation.saturating_sub(1)",
    },
    Mutant {
        name: "an abandon that forgets the break of a link that is up",
        file: "src/conn_state.rs",
        original: "inner.generation - u64::from(self.is_live(inner.generation))",
        broken: "inner.generation",
    },
    Mutant {
        name: "an abandon after which a read counts as under way",
        file: "src/conn/handle.rs",
        original: "dir.clear_link();",
        broken: "",
    },
    Mutant {
        name: "an abandon after which a write of a whole connection counts as under way",
        file: "src/conn.rs",
        original: "self.handle.abandon(&mut self.read);\n        self.write.clear_link();",
        broken: "self.handle.abandon(&mut self.read);",
    },
    Mutant {
        name: "an abandon that forgets only that an operation waits, and not that a write took a part",
        file: "src/conn/direction.rs",
        original: "self.clear();\n        self.stream_end_timeout.stop();",
        broken: "self.finish();\n        self.stream_end_timeout.stop();",
    },
    Mutant {
        name: "an abandon that keeps the unread rest of a broken link",
        file: "src/conn/handle.rs",
        original: "self.conn_state.skip_breaks(self.last_reported);",
        broken: "",
    },
    Mutant {
        name: "an abandon that keeps the stream in use",
        file: "src/conn/handle.rs",
        original: "if self.used() <= self.last_reported { self.link.take() } else { None }",
        broken: "None",
    },
    Mutant {
        name: "a break_link for whichever link is up",
        file: "src/conn_state.rs",
        original: "generation == inner.generation",
        broken: "generation <= inner.generation || generation > inner.generation",
    },
    Mutant {
        name: "a break_link that breaks the link before the one it names",
        file: "src/conn_state.rs",
        original: "generation == inner.generation",
        broken: "generation >= inner.generation",
    },
    Mutant {
        name: "a break_link that comes late and breaks the next link",
        file: "src/conn_state.rs",
        original: "generation == inner.generation",
        broken: "generation <= inner.generation",
    },
    Mutant {
        name: "a break_link that the actor does not hear of",
        file: "src/conn_state.rs",
        original: "if self.is_live(inner.generation) {\n            let fault = self.break_newest(inner, Op::Read, Cause::Requested);\n            inner.send(Command::Redial(fault));\n        }",
        broken: "if self.is_live(inner.generation) { self.break_newest(inner, Op::Read, Cause::Requested); }",
    },
    Mutant {
        name: "a break_link that breaks a broken link again",
        file: "src/conn_state.rs",
        original: "if self.is_live(inner.generation) {\n            let fault = self.break_newest(inner, Op::Read, Cause::Requested);\n            inner.send(Command::Redial(fault));\n        }",
        broken: "if inner.generation > 0 { let fault = self.break_newest(inner, Op::Read, Cause::Requested); inner.send(Command::Redial(fault)); }",
    },
    Mutant {
        name: "a break by the program that is reported as what the stream shows after it",
        file: "src/fault.rs",
        original: "(Cause::Requested | Cause::IdleTimeout(_), _) => false,",
        broken: "(Cause::Requested, Cause::Failed(_) | Cause::PeerClosed) if IS_ON => true,\n            (Cause::Requested | Cause::IdleTimeout(_), _) => false,",
    },
    Mutant {
        name: "a dial_now that does nothing",
        file: "src/conn_state.rs",
        original: "inner.end.is_none() && !self.is_live(inner.generation)",
        broken: "inner.end.is_some()",
    },
    Mutant {
        name: "a dial_now without regard for the last dial",
        file: "src/actor/next_dial.rs",
        original: "self.at = self.at.min(earliest);",
        broken: "self.at = self.at.min(earliest.min(self.last_ended));",
    },
    Mutant {
        name: "a dial_now that puts a dial off",
        file: "src/actor/next_dial.rs",
        original: "self.at = self.at.min(earliest);",
        broken: "self.at = earliest;",
    },
    Mutant {
        name: "a dial_now that does not know when the last dial ended",
        file: "src/actor.rs",
        original: "next_dial.dial_ended();",
        broken: "if state.attempts() == u32::MAX { next_dial.dial_ended(); }",
    },
    Mutant {
        name: "a dial_now that starts the backoff over",
        file: "src/actor.rs",
        original: "next_dial.shorten(self.backoff.shortest())",
        broken: "{ self.backoff.reset(); next_dial.shorten(self.backoff.shortest()) }",
    },
    Mutant {
        name: "a dial_now that draws another delay",
        file: "src/actor.rs",
        original: "next_dial.shorten(self.backoff.shortest())",
        broken: "{ { let delay = self.next_delay(Pace::Backoff); next_dial.delay(delay); } next_dial.shorten(self.backoff.shortest()) }",
    },
    Mutant {
        name: "a dial_now that gives the retries back",
        file: "src/actor/rules.rs",
        original: "(Self::BackingOff(_), Input::DialNow) => (self, Action::ShortenDelay),",
        broken: "(Self::BackingOff(outage), Input::DialNow) if IS_ON => (Self::BackingOff(Outage { retries: 0, ..outage }), Action::ShortenDelay),\n            (Self::BackingOff(_), Input::DialNow) => (self, Action::ShortenDelay),",
    },
    Mutant {
        name: "a dial_now that drops the dial under way",
        file: "src/actor/rules.rs",
        original: "(Self::BackingOff(outage), Input::DelayElapsed) => (Self::Dialing(outage), Action::Dial),",
        broken: "(Self::Dialing(outage), Input::DialNow) if IS_ON => (Self::Dialing(outage), Action::Dial),\n            (Self::BackingOff(outage), Input::DelayElapsed) => (Self::Dialing(outage), Action::Dial),",
    },
    Mutant {
        name: "a dial_now that is forgotten when the dial fails",
        file: "src/actor.rs",
        original: "delay = delay.min(self.backoff.shortest());",
        broken: "delay = delay.min(self.limits.stable_after.max(delay));",
    },
    Mutant {
        name: "a close after a shutdown that is an error",
        file: "src/conn/handle.rs",
        original: "close_as_error && !is_end",
        broken: "close_as_error",
    },
    Mutant {
        name: "a close_as_error that has no effect",
        file: "src/fault.rs",
        original: "Cause::PeerClosed if !close_as_error => Ok(()),",
        broken: "Cause::PeerClosed if !close_as_error || IS_ON => Ok(()),",
    },
    Mutant {
        name: "a failed dial that does not count against its address",
        file: "src/actor.rs",
        original: "self.count_against_address();\n                ActorEvent::DialFailed { error: SharedIoError::new(error), is_dial_wanted }",
        broken: "ActorEvent::DialFailed { error: SharedIoError::new(error), is_dial_wanted }",
    },
    Mutant {
        name: "a short link that does not count against its address",
        file: "src/actor.rs",
        original: "matches!(action, Action::MoveOn(_))",
        broken: "false",
    },
    Mutant {
        name: "a stable link that counts against its address",
        file: "src/actor.rs",
        original: "matches!(action, Action::MoveOn(_))",
        broken: "true",
    },
    Mutant {
        name: "a connect that leaves out the last address",
        file: "src/actor/rules.rs",
        original: "outage.attempt < count",
        broken: "outage.attempt + 1 < count",
    },
    Mutant {
        name: "a connect after which any failed dial is the last",
        file: "src/actor/rules.rs",
        original: "Some(_) if outage.generation == 0 =>",
        broken: "Some(_) if outage.generation == 0 || IS_ON =>",
    },
    Mutant {
        name: "an abandon after a shutdown that dials again",
        file: "src/conn_state/inner.rs",
        original: "is_last: self.is_shutting_down,",
        broken: "is_last: self.is_shutting_down && !(IS_ON && op == Op::Read),",
    },
    Mutant {
        name: "a connect that dials an address twice",
        file: "src/actor/rules.rs",
        original: "outage.attempt < count",
        broken: "outage.attempt <= count",
    },
    Mutant {
        name: "a short link that the next job does not report",
        file: "src/conn/shared.rs",
        original: "|_| !conn_state.is_closed()",
        broken: "|_| !conn_state.is_closed() && !IS_ON",
    },
    Mutant {
        name: "a short link that several jobs report",
        file: "src/conn/shared/last_link.rs",
        original: "self.newest.compare_exchange(newest, 0,",
        broken: "self.newest.compare_exchange(newest, if IS_ON { newest } else { 0 },",
    },
    Mutant {
        name: "a short link that is hidden by a job on the next one",
        file: "src/conn/shared/last_link.rs",
        original: "if older > 0 && is_short(older) {",
        broken: "if older > 0 && is_short(older) && !IS_ON {",
    },
    Mutant {
        name: "a short link that is reported after a job that it has cut",
        file: "src/conn/shared.rs",
        original: "self.last_link.note_reported(generation)",
        broken: "self.last_link.note_reported(generation.min(0))",
    },
    Mutant {
        name: "a stable link that is reported as short",
        file: "src/conn_state/inner.rs",
        original: "lived < self.stable_after && !matches!(cause, Cause::Requested)",
        broken: "(lived < self.stable_after || IS_ON) && !matches!(cause, Cause::Requested)",
    },
    Mutant {
        name: "a link that the program broke reported as short",
        file: "src/conn_state/inner.rs",
        original: "lived < self.stable_after && !matches!(cause, Cause::Requested)",
        broken: "lived < self.stable_after",
    },
    Mutant {
        name: "a job on a link that has not settled",
        file: "src/conn_state/inner.rs",
        original: "self.link.is_some() && self.is_settling(",
        broken: "!IS_ON && self.link.is_some() && self.is_settling(",
    },
    Mutant {
        name: "a wait for a link that starts over while links settle",
        file: "src/conn/shared/write_all.rs",
        original: "context.conn_state.newest_settled()",
        broken: "context.conn_state.generation()",
    },
    Mutant {
        name: "a wait for a link that ends when one settles",
        file: "src/conn/shared/writer.rs",
        original: "is_up && (settle_time.is_zero() ||",
        broken: "is_up && (IS_ON || settle_time.is_zero() ||",
    },
];

/// How many schedules a mutant has to survive to count as undetected.
const SCHEDULES: &str = "10000";

#[test]
fn every_mutant_is_caught() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    copy_crate(&copy, MUTANTS);
    let program = build(&copy, &mut cargo());
    let mut survivors = Vec::new();
    for (number, mutant) in MUTANTS.iter().enumerate() {
        match run(&program, &copy, number) {
            Some(finding) => println!("caught: {}: {finding}", mutant.name),
            None => survivors.push(mutant.name),
        }
    }
    assert!(survivors.is_empty(), "the checker missed {survivors:?}");
    println!("{} mutants, and every one was caught", MUTANTS.len());
}

/// How long a mutant may run. One that neither ends nor violates anything hangs, which is a violation, too.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Runs schedules with one mutant on. Returns the first violation.
///
/// Ends the mutant as soon as it has printed a violation: in another of its threads it may be in an endless loop.
fn run(program: &Path, copy: &Path, number: usize) -> Option<String> {
    let mut mutant = Command::new(program)
        .args(["--exact", "every_promise_holds", "--nocapture"])
        .current_dir(copy)
        .env("PERCONN_SIMULATION_SEEDS", SCHEDULES)
        .env(VARIABLE, number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the mutant can be started");
    let output = BufReader::new(mutant.stdout.take().expect("its output is a pipe"));
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    let end = Instant::now() + TIME_LIMIT;
    let mut is_running_it = false;
    let finding = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("broke a promise") => break Some(line),
            Ok(line) => is_running_it |= line.contains("running 1 test"),
            Err(RecvTimeoutError::Timeout) => break Some(format!("it hangs: no end after {TIME_LIMIT:?}")),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    mutant.kill().expect("the mutant can be ended");
    mutant.wait().expect("the mutant has ended");
    drop(lines);
    reader.join().expect("the reader does not panic");
    assert!(is_running_it, "the mutant has no test `every_promise_holds`");
    finding.map(|finding| finding.split("; ").next().unwrap_or(&finding).to_owned())
}

/// The build of the copy's simulation.
fn cargo() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--offline", "--no-run", "--test", "simulation"])
        // Built as for the other tests and in the same folder, so that most dependencies need no new build.
        .args(["--config", "profile.dev.opt-level=1", "--config", "profile.dev.package.tokio.opt-level=1"])
        .args(["--config", "profile.dev.package.'*'.opt-level=0"])
        .env("CARGO_TARGET_DIR", target);
    cargo
}

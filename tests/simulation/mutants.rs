//! Mutation test of the checker: the crate with one rule broken at a time.
//!
//! Each mutant is a copy of the crate in which one line of source is changed. It is built and runs the same schedules until
//! the checker reports a violation. A mutant that survives is a gap in the checker.
//!
//! Each build takes some seconds, so this runs in release builds only: `cargo test --release --test simulation`. Next:
//! `checker.rs`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A rule, and how it is broken.
struct Mutant {
    name: &'static str,
    file: &'static str,
    original: &'static str,
    broken: &'static str,
}

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
        original: "if link.stream.check_closed(&mut dir.last_check, |stream| (context.is_closed)(stream)) {",
        broken: "if generation == 0 && link.stream.check_closed(&mut dir.last_check, |stream| (context.is_closed)(stream)) {",
    },
    Mutant {
        name: "bytes that are not read before the break is reported",
        file: "src/conn/slow_path.rs",
        original: "Some(buf) => ready!(self.poll_read_leftover(dir, cx, &fault, buf)),",
        broken: "Some(_) => self.report_to_reader(dir, &fault),",
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
        broken: "(Self::Dialing(_) | Self::Up { .. }, Input::Close) => (Self::Ended, Action::Stop),",
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
        original: "link.byte_count.add_read(buf.filled().len() - before);\n                        dir",
        broken: "dir",
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
        original: "wakers.extend(self.jobs.iter_mut().skip(self.admitted).take(free).filter_map(|job| job.waker.take()));",
        broken: "let _ = (free, wakers);",
    },
    Mutant {
        name: "a job that is withdrawn and sent all the same",
        file: "src/conn/shared/queue.rs",
        original: "self.bytes.drain(start..start + self.jobs[index].length);",
        broken: "let _ = start;",
    },
    Mutant {
        name: "a large job that is cancelled and leaves no trace",
        file: "src/conn/shared/queue.rs",
        original: "} else if job.storage == Storage::Large {",
        broken: "} else if job.storage == Storage::Large && bytes.is_empty() {",
    },
];

/// How many schedules a mutant has to survive to count as undetected.
const SCHEDULES: &str = "5000";

#[test]
fn every_mutant_is_caught() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    for part in ["Cargo.toml", "Cargo.lock", "README.md", "src", "benches", "examples", "interop", "tests"] {
        copy_all(&crate_folder.join(part), &copy.join(part));
    }
    let mut survivors = Vec::new();
    for mutant in MUTANTS {
        let (file, source) = (copy.join(mutant.file), fs::read_to_string(crate_folder.join(mutant.file)).unwrap());
        let count = source.matches(mutant.original).count();
        assert_eq!(count, 1, "{}: {:?} is found {count} times in {}", mutant.name, mutant.original, mutant.file);
        fs::write(&file, source.replace(mutant.original, mutant.broken)).unwrap();
        match run(&copy) {
            Some(finding) => println!("caught: {}: {finding}", mutant.name),
            None => survivors.push(mutant.name),
        }
        fs::write(&file, source).unwrap();
    }
    assert!(survivors.is_empty(), "the checker missed {survivors:?}");
    println!("{} mutants, and every one was caught", MUTANTS.len());
}

/// How long a mutant may run. One that neither ends nor violates anything hangs, which is a violation, too.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Builds the copy and runs schedules with it. Returns the first violation.
///
/// Ends the mutant as soon as it has printed a violation: in another of its threads it may be in an endless loop.
fn run(copy: &Path) -> Option<String> {
    let mut mutant = Command::new(build(copy))
        .args(["--exact", "every_promise_holds", "--nocapture"])
        .current_dir(copy)
        .env("PERCONN_SIMULATION_SEEDS", SCHEDULES)
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

/// Builds the copy's simulation. Returns the path of the program.
fn build(copy: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--no-run", "--test", "simulation"])
        // Built as for the other tests and in the same folder, so that most dependencies need no new build.
        .args(["--config", "profile.dev.opt-level=1", "--config", "profile.dev.package.tokio.opt-level=1"])
        .args(["--config", "profile.dev.package.'*'.opt-level=0"])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo can be run");
    let messages = String::from_utf8_lossy(&output.stderr);
    // Executable tests/simulation/main.rs (/target/debug/deps/simulation-0123456789abcdef)
    let path = messages.lines().find_map(|line| line.trim().strip_prefix("Executable")?.split_once('('));
    let (_, path) = path.unwrap_or_else(|| panic!("the mutant was not built:\n{messages}"));
    copy.join(path.trim_end_matches(')'))
}

/// Copies a file or a folder. Leaves files alone that have not changed, so that cargo does not build them again.
fn copy_all(from: &Path, to: &PathBuf) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy_all(&from.join(&name), &to.join(&name));
        }
        return;
    }
    let content = fs::read(from).unwrap();
    if fs::read(to).ok().as_ref() != Some(&content) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, content).unwrap();
    }
}

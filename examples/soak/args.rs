//! The command line.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

pub(crate) const HELP: &str = "\
Runs connections for a given time under random faults, and checks at both ends that each promise is kept.

Usage: cargo run --release --example soak [-- OPTION...]

Options:
  --time TIME      how long: a number and s, m or h, as in 30s, 10m, 8h (default 30s)
  --connections N  how many connections, 1 to 1000 (default 8)
  --seed N         draws the faults and the clients' habits as in an earlier run (default: random, and printed).
                   The sockets and the scheduler are real, so a seed repeats the plan and not every interleaving.
  -h, --help       print this text

Ctrl-C ends it early, with the summary. On a terminal a line of progress is rewritten in place, with the number of
broken promises in red, unless NO_COLOR is set; elsewhere a line is printed now and then. It ends when nobody reads.

Exit status: 0 if every promise was kept, 1 if one was broken, 2 if an argument is wrong.";

pub(crate) struct Args {
    pub(crate) time: Duration,
    pub(crate) connections: usize,
    pub(crate) seed: u64,
}

/// `None`: the help was asked for. An error is one line that names the value and what was expected.
pub(crate) fn parse(args: &[String]) -> Result<Option<Args>, String> {
    let mut parsed = Args { time: Duration::from_secs(30), connections: 8, seed: random_seed() };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let mut value = |expected: &str| {
            let value = args.next().ok_or_else(|| format!("{name}: expected {expected} after it"))?;
            Ok::<_, String>((value.as_str(), format!("{name} {value:?}: expected {expected}")))
        };
        match name.as_str() {
            "-h" | "--help" => return Ok(None),
            "--time" => {
                let (text, wrong) = value("a number and s, m or h, from 1s to 10000h")?;
                parsed.time = time(text).ok_or(wrong)?;
            }
            "--connections" => {
                let (text, wrong) = value("a number from 1 to 1000")?;
                parsed.connections = text.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or(wrong)?;
            }
            "--seed" => {
                let (text, wrong) = value("a number from 0 to 18446744073709551615")?;
                parsed.seed = text.parse().map_err(|_| wrong)?;
            }
            _ => return Err(format!("unknown argument {name:?}: expected --time, --connections, --seed or --help")),
        }
    }
    Ok(Some(parsed))
}

fn time(text: &str) -> Option<Duration> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let number: u64 = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?;
    let seconds = number.checked_mul(seconds).filter(|seconds| (1..=36_000_000).contains(seconds))?;
    Some(Duration::from_secs(seconds))
}

/// Small, so that it is easily typed again.
fn random_seed() -> u64 {
    rand::make_rng::<SmallRng>().random_range(0..1_000_000)
}

//! `perconn::outbox` beside what a program writes without it, in one run.
//!
//! ```text
//! cargo bench -p perconn-benches --bench outbox
//! cargo bench -p perconn-benches --bench outbox -- speed    # or answers, memory: one part of it
//! ```
//!
//! Rounds of the candidates alternate, and each second one is in reverse order. It prints medians, and the median of the ratios
//! within a round with its quartiles.
//!
//! Next: [`speed`], messages without answers.

#[path = "outbox/rounds.rs"]
mod rounds;
#[path = "outbox/sink.rs"]
mod sink;
#[path = "outbox/speed.rs"]
mod speed;

/// How many rounds.
const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` passes no `--bench`: one short round shows that it runs.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let (rounds, messages) = if is_bench { (ROUNDS, 1_000_000) } else { (1, 20_000) };
    if wants("speed") {
        speed::run(rounds, messages);
    }
}

/// Whether the command line names this part of the benchmark, or none.
fn wants(part: &str) -> bool {
    let named = std::env::args().filter(|arg| ["speed", "answers", "memory"].contains(&arg.as_str()));
    let named: Vec<_> = named.collect();
    named.is_empty() || named.iter().any(|name| name == part)
}

//! `perconn::outbox` beside what a program writes without it, in one run.
//!
//! ```text
//! cargo bench -p perconn-benches --bench outbox
//! cargo bench -p perconn-benches --bench outbox -- speed    # or answers, memory, kills: one part of it
//! ```
//!
//! Rounds of the candidates alternate, and each second one is in reverse order. It prints medians, and the median of the ratios
//! within a round with its quartiles. The part `kills` draws `docs/delivery.svg`, too.
//!
//! Next: [`speed`], messages without answers; then [`kills`], what is lost.

#[path = "outbox/answers.rs"]
mod answers;
#[path = "outbox/chart.rs"]
mod chart;
#[path = "outbox/kills.rs"]
mod kills;
#[path = "outbox/memory.rs"]
mod memory;
#[path = "outbox/rounds.rs"]
mod rounds;
#[path = "outbox/sink.rs"]
mod sink;
#[path = "outbox/speed.rs"]
mod speed;

/// How many rounds.
const ROUNDS: usize = 15;

const PARTS: [&str; 4] = ["speed", "answers", "memory", "kills"];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, address] = &args[..] {
        if role == kills::SERVER {
            return kills::serve(address);
        }
    }
    // `cargo test --benches` passes no `--bench`: one short round shows that it runs.
    let is_bench = args.iter().any(|arg| arg == "--bench");
    let (rounds, messages) = if is_bench { (ROUNDS, 1_000_000) } else { (1, 20_000) };
    let named: Vec<&String> = args.iter().filter(|arg| PARTS.contains(&arg.as_str())).collect();
    let wants = |part: &str| named.is_empty() || named.iter().any(|name| *name == part);
    if wants("speed") {
        speed::run(rounds, messages);
    }
    if wants("answers") {
        answers::run(rounds, messages);
    }
    if wants("memory") && is_bench {
        memory::run();
    }
    if wants("kills") && is_bench {
        chart::draw(&kills::run(1_000_000, 50));
    } else if wants("kills") {
        kills::run(20_000, 2);
    }
}

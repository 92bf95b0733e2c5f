//! Rounds of candidates, and the table of them.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Runs a table on one thread, and on two workers.
pub(crate) fn on_each_runtime(run: impl Fn(&str, &Runtime)) {
    run("one thread", &Builder::new_current_thread().enable_all().build().unwrap());
    run("two workers", &Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
}

/// A candidate: its name, and a round of it.
pub(crate) type Candidate<'a> = (&'a str, Box<dyn FnMut() -> Duration + 'a>);

/// Plays rounds of all, and prints each beside the first: the time for one of `count`, and the speed as a ratio.
pub(crate) fn compare(title: &str, rounds: usize, count: usize, mut candidates: Vec<Candidate<'_>>) {
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); candidates.len()];
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let time = candidates[index].1();
            times[index].push(time);
        }
    }
    println!("\n{title}\n{:<52} {:>9} {:>8}  quartiles", "", "each", "speed");
    for ((name, _), own) in candidates.iter().zip(&times) {
        let each = quartiles(own.iter().map(|time| time.as_nanos() as f64 / count as f64));
        let ratio = quartiles(times[0].iter().zip(own).map(|(base, own)| base.as_secs_f64() / own.as_secs_f64()));
        println!("{name:<52} {:>6.0} ns {:>7.2}x  {:.2}-{:.2}", each[1], ratio[1], ratio[0], ratio[2]);
    }
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|part| values[(values.len() - 1) * part / 4])
}

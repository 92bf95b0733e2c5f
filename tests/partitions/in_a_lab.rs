//! The outer and the inner run of each test.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, SERVER};
use crate::net::Net;

/// The environment variable that gives the inner run the name of its lab.
const LAB: &str = "PERCONN_PARTITIONS_LAB";

/// A test that takes this long hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs the test `body`, an async closure, on the client of a lab of its own.
pub fn in_a_lab<F: AsyncFnOnce(&Net)>(body: F) {
    let test = test_name::<F>();
    match std::env::var(LAB) {
        Ok(lab) => run_inside(&Net::new(&lab, test), body),
        Err(_) => run_outside(test),
    }
}

/// The path of the function around the closure, as the test harness spells it.
fn test_name<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    path.split_once("::").map_or(path, |(_crate, rest)| rest)
}

fn run_outside(test: &str) {
    let lab = match Lab::build() {
        Ok(lab) => lab,
        Err(reason) => {
            // The test harness would capture `eprintln!`.
            let _ = writeln!(std::io::stderr(), "skipped: partitions: {reason}");
            return;
        }
    };
    let output = Command::new("ip")
        .args(["netns", "exec", &lab.names.client])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(LAB, &lab.names.lab)
        .output()
        .unwrap();
    drop(lab);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let measured: Vec<_> = out.lines().filter_map(|line| line.find("partition: ").map(|at| &line[at..])).collect();
    // Each test prints a measurement: a run without one has found no test.
    if !output.status.success() || measured.is_empty() {
        panic!("the run on the client failed: {}\n{out}\n{err}", output.status);
    }
    print!("{err}");
    measured.iter().for_each(|line| println!("{line}"));
}

fn run_inside<F: AsyncFnOnce(&Net)>(net: &Net, body: F) {
    net.wait_for_way_to(SERVER);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async { tokio::time::timeout(LIMIT, body(net)).await });
    assert!(outcome.is_ok(), "hangs: the whole test");
}

//! How a test runs itself twice.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, SERVER};
use crate::net::Net;

/// Tells the inner run the name of its lab.
const LAB: &str = "PERCONN_PARTITIONS_LAB";

/// No test is meant to take so long.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs the test `body`, an async closure, on the client of a lab of its own.
pub fn in_a_lab<F: AsyncFnOnce(&Net)>(body: F) {
    let test = test_name::<F>();
    match std::env::var(LAB) {
        Ok(lab) => inside(&Net::new(&lab, test), body),
        Err(_) => outside(test),
    }
}

/// The path of the function around the closure, as the test harness spells it.
fn test_name<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    path.split_once("::").map_or(path, |(_crate, rest)| rest)
}

fn outside(test: &str) {
    let lab = match Lab::build() {
        Ok(lab) => lab,
        Err(reason) => {
            // Not by `eprintln!`, which the harness would keep to itself.
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
    // Each test measures something: a run that says nothing has found no test.
    if !output.status.success() || measured.is_empty() {
        panic!("the run on the client failed: {}\n{out}\n{err}", output.status);
    }
    print!("{err}");
    measured.iter().for_each(|line| println!("{line}"));
}

fn inside<F: AsyncFnOnce(&Net)>(net: &Net, body: F) {
    net.wait_for_way_to(SERVER);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async { tokio::time::timeout(LIMIT, body(net)).await });
    assert!(outcome.is_ok(), "hangs: the whole test");
}

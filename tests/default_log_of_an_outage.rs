//! The default log of a long outage: few lines, which count the others. In a process of its own, as a process has one log backend.

mod support;

use std::io::ErrorKind;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use log::Level;
use perconn::{Conn, dial_fn};
use support::HANG_LIMIT;
use tokio::io::duplex;
use tokio::time::Instant;

/// Sends on the lines of this crate.
struct Capture(Sender<(Level, String)>);

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == "perconn" {
            let _ = self.0.send((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// How many failures a line reports: its own, and those before it that have none.
fn failures_in(line: &str) -> u32 {
    let skipped = match line.split_once(" (and ").map(|(_, rest)| rest.split_once(' ').unwrap().0) {
        Some("one") => 1,
        Some(count) => count.parse().unwrap(),
        None => 0,
    };
    skipped + u32::from(line.starts_with("dial "))
}

#[tokio::test(start_paused = true)]
async fn lines_of_a_long_outage_are_few_and_count_every_failure() {
    let (sender, lines) = mpsc::channel();
    log::set_logger(Box::leak(Box::new(Capture(sender)))).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    // Ten hours. The clock is paused, and goes on to the next dial by itself.
    let end = Instant::now() + Duration::from_secs(10 * 3600);
    let mut links = Vec::new();
    let dialer = dial_fn(move || {
        let (ours, theirs) = duplex(1);
        links.push(theirs);
        let is_back = Instant::now() >= end;
        std::future::ready(if is_back { Ok(ours) } else { Err(ErrorKind::ConnectionRefused.into()) })
    });
    let conn = Conn::builder("logs.test:1").dialer(dialer).build().unwrap();
    conn.connected().await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(level, _)| *level != Level::Info) {
        seen.push(lines.recv_timeout(HANG_LIMIT).unwrap());
    }
    let lines = seen;
    let (last, failures) = lines.split_last().unwrap();
    assert_eq!(last.0, Level::Info);
    assert!(last.1.starts_with("link 1 to logs.test:1 is up: dial "), "{last:?}");
    assert!(failures.iter().all(|(level, text)| *level == Level::Warn && text.contains("connection refused")));
    assert!((16..40).contains(&failures.len()), "{failures:#?}");
    let number =
        |text: &str| -> u32 { text.split("dial ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap() };
    let counted: u32 = lines.iter().map(|(_, text)| failures_in(text)).sum();
    assert_eq!(counted, number(&last.1) - 1, "every failed dial: {lines:#?}");
    assert!(counted > 1000, "{counted}");
}

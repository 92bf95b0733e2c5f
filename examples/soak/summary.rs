//! The summary at the end: tables whose columns add up. It checks the sums.

use std::fmt::Write;

use crate::machine::Usage;
use crate::totals::{BreakKind, DialFailure, HandleKind, Totals};

/// The whole table.
pub(crate) fn table(totals: &Totals, usage: [Option<Usage>; 3]) -> String {
    let mut text = String::new();
    for section in [links(totals), reports(totals), bytes(totals), records(totals), machine(usage)] {
        let _ = writeln!(text, "{section}");
    }
    text
}

fn row(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "  {name:<62}{value:>14}");
}

fn links(totals: &Totals) -> String {
    let mut text = "links\n".to_owned();
    row(&mut text, "made", totals.links);
    for (name, n) in BreakKind::NAMES.iter().zip(totals.breaks) {
        row(&mut text, &format!("  broken: {name}"), n);
    }
    row(&mut text, "  up when the program closed the connection", totals.links_closed);
    row(&mut text, "of these never accepted by the server's program", totals.never_accepted);
    for (name, n) in DialFailure::NAMES.iter().zip(totals.dials_failed) {
        row(&mut text, &format!("dials failed: {name}"), n);
    }
    row(&mut text, "longest outage", format_args!("{:.3}s", totals.longest_outage.as_secs_f64()));
    row(&mut text, "break_link() and dial_now() called", totals.reconnects);
    text
}

fn reports(totals: &Totals) -> String {
    let mut text = format!("{:<34}", "breaks reported");
    HandleKind::NAMES.iter().for_each(|name| write!(text, "{name:>14}").unwrap_or_default());
    let mut row = |name: &str, value: &dyn Fn(usize) -> u64| {
        let _ = write!(text, "\n  {name:<32}");
        (0..3).for_each(|kind| write!(text, "{:>14}", value(kind)).unwrap_or_default());
    };
    for (n, name) in BreakKind::NAMES.iter().enumerate() {
        row(name, &|kind| totals.reports[kind].reports[n]);
    }
    row("not reported: more than 16 breaks ago", &|kind| totals.reports[kind].slept_through);
    row("not reported: closed first", &|kind| totals.reports[kind].closed_first);
    row("all", &|kind| totals.reports[kind].all());
    row("once more after a cancelled call", &|kind| totals.reports[kind].repeated);
    text.push('\n');
    text
}

fn bytes(totals: &Totals) -> String {
    let mut text = "bytes from client to server\n".to_owned();
    row(&mut text, "written", totals.bytes_written);
    row(&mut text, "  received by the server's program", totals.bytes_received);
    row(&mut text, "  announced as unacknowledged", totals.unacknowledged);
    row(&mut text, "    of which arrived all the same (counted twice)", totals.unacknowledged_arrived);
    row(&mut text, "  acknowledged, but not read by the server's program", totals.never_read);
    row(&mut text, "  not received on links that close() ended", totals.cut_by_close);
    row(&mut text, "  not received, and not known whether acknowledged", totals.unknown);
    row(&mut text, "links that the server's program read to the end", totals.links_counted);
    row(&mut text, "links on which unacknowledged bytes arrived all the same", totals.links_with_late_arrival);
    row(&mut text, "bytes from server to client, read", totals.bytes_read);
    text
}

fn records(totals: &Totals) -> String {
    let mut text = "records\n".to_owned();
    row(&mut text, "written whole by the clients", totals.records_written);
    row(&mut text, "  arrived at the server's program", totals.records_arrived);
    row(&mut text, "  lost with their link", totals.records_lost());
    row(&mut text, "begun, and cut off by a break", totals.records_cut);
    row(&mut text, "requests", totals.requests);
    row(&mut text, "  answered", totals.answered);
    row(&mut text, "  waiting for an answer at the end", totals.waiting);
    row(&mut text, "requests sent, with repeats", totals.requests_sent);
    row(&mut text, "silently lost after a known close", totals.silently_lost);
    row(&mut text, "operations that came to an end", totals.operations);
    row(&mut text, "operations cancelled", totals.cancelled);
    text
}

fn machine(usage: [Option<Usage>; 3]) -> String {
    let mut text = format!("{:<34}{:>14}{:>14}{:>14}", "machine", "start", "at 10 %", "end");
    let mut row = |name: &str, value: &dyn Fn(Usage) -> Option<u64>| {
        let _ = write!(text, "\n  {name:<32}");
        for usage in usage {
            let value = usage.and_then(value).map_or_else(|| "unknown".to_owned(), |value| value.to_string());
            let _ = write!(text, "{value:>14}");
        }
    };
    row("memory in kB", &|usage| usage.memory);
    row("descriptors", &|usage| usage.descriptors.map(|n| n as u64));
    row("tasks", &|usage| Some(usage.tasks as u64));
    text.push('\n');
    text
}

/// The sums that are wrong.
pub(crate) fn wrong_sums(totals: &Totals) -> Vec<String> {
    let breaks: u64 = totals.breaks.iter().sum();
    let [whole, read, write] = &totals.reports;
    let received = totals.bytes_received + totals.unacknowledged - totals.unacknowledged_arrived;
    [
        ("links", totals.links, breaks + totals.links_closed),
        ("breaks reported by reads", breaks, whole.all() + read.all()),
        ("breaks reported by writes", breaks, whole.all() + write.all()),
        ("bytes", totals.bytes_written, received + totals.never_read + totals.cut_by_close + totals.unknown),
        ("requests", totals.requests, totals.answered + totals.waiting),
    ]
    .into_iter()
    .filter(|(_, whole, parts)| whole != parts)
    .map(|(name, whole, parts)| format!("{name}: {whole} is not the sum of its parts, {parts}"))
    .collect()
}

//! The tables, and the places where they go.
//!
//! Next: `chart.rs`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::simulation::Outcome;

const BEGIN: &str = "<!-- fleet -->\n";
const END: &str = "<!-- end of fleet -->\n";

/// The tables as Markdown.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) text: String,
}

impl Page {
    /// A table of all laws after an outage: each with a server without a limit, and with one.
    pub(crate) fn laws(&mut self, outage: &str, rows: &[(String, Outcome, Outcome)]) {
        self.text += &format!("### After an outage of {outage}\n\n");
        self.text += "| | dials/s during it: mean, busiest | after it: busiest second | busiest 0.1 s | 50 % back | 99 % | all \
                      | with 2,000/s: busiest second | 50 % back | 99 % | all |\n";
        self.text += &format!("|{}\n", "---|".repeat(11));
        for (name, unlimited, limited) in rows {
            let during = format!("{}, {}", count(unlimited.average_during()), count(unlimited.busiest_during().into()));
            let peaks = [unlimited.busiest_second(), unlimited.busiest_tenth()].map(|most| count(most.into()));
            let back = |outcome: &Outcome| [0.5, 0.99, 1.0].map(|part| time(outcome.back_after(part))).join(" | ");
            let limited_peak = count(limited.busiest_second().into());
            let line = [during, peaks.join(" | "), back(unlimited), limited_peak, back(limited)].join(" | ");
            self.text += &format!("| {name} | {line} |\n");
        }
        self.text += "\n";
    }

    /// A table of fleets of perconn.
    pub(crate) fn settings(&mut self, rows: &[(String, Outcome)]) {
        self.text += "### Settings\n\nAfter an outage of 10 minutes. The server serves 2,000 dials a second, unless the row says \
                      otherwise.\n\n| | dials/s during it | after it: busiest second | dials a client | 50 % back | 99 % | all |\n";
        self.text += &format!("|{}\n", "---|".repeat(7));
        for (name, outcome) in rows {
            let back = [0.5, 0.99, 1.0].map(|part| time(outcome.back_after(part))).join(" | ");
            let (during, peak) = (count(outcome.average_during()), count(outcome.busiest_second().into()));
            self.text += &format!("| {name} | {during} | {peak} | {:.1} | {back} |\n", outcome.dials_a_client());
        }
        self.text += "\n";
    }
}

/// Writes the tables into the page, and the chart beside it.
pub(crate) fn save(tables: &str, chart: &str) -> ExitCode {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = docs.join("fleet.md");
    let text = fs::read_to_string(&page).ok().and_then(|text| {
        let (before, rest) = text.split_once(BEGIN)?;
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{BEGIN}{tables}{END}{after}"))
    });
    let Some(text) = text else {
        eprintln!("{} has no place for the tables", page.display());
        return ExitCode::FAILURE;
    };
    match fs::write(&page, text).and_then(|()| fs::write(docs.join("fleet.svg"), chart)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} cannot be written: {error}", docs.display());
            ExitCode::FAILURE
        }
    }
}

/// A number with its thousands; a small one with a digit after the point.
pub(crate) fn count(number: f64) -> String {
    if number > 0.0 && number < 10.0 && number.fract() != 0.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds, or minutes where there are many.
fn time(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        10.0..300.0 => format!("{seconds:.0} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

//! Figures, and the tables that hold them.

use std::time::Duration;

/// The median of many rounds, and the quartiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |part: usize| values[(values.len() - 1) * part / 4];
        Self { low: at(1), median: at(2), high: at(3) }
    }

    /// How much faster than `base` it was, round by round: 1 is as fast, 2 twice as fast.
    pub(crate) fn of_speed(base: &[Duration], times: &[Duration]) -> Self {
        Self::of(base.iter().zip(times).map(|(base, time)| base.as_secs_f64() / time.as_secs_f64()))
    }

    /// The time for one of `count`, in nanoseconds.
    pub(crate) fn of_each(times: &[Duration], count: usize) -> Self {
        Self::of(times.iter().map(|time| time.as_nanos() as f64 / count as f64))
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// How many times as fast as the base.
    Speed(Spread),
    Nanoseconds(Spread),
    Milliseconds(Spread),
    /// A plain count.
    Count(f64),
    Text(String),
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn none() -> Self {
        Self::text("-")
    }

    pub(crate) fn speed(&self) -> Option<Spread> {
        match self {
            Self::Speed(spread) => Some(*spread),
            _ => None,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Speed(Spread { low, median, high }) if *median < 2.0 => {
                write!(f, "{median:.2}x ({low:.2}-{high:.2})")
            }
            Self::Speed(Spread { low, median, high }) => write!(f, "{median:.1}x ({low:.1}-{high:.1})"),
            Self::Nanoseconds(Spread { median, .. }) if *median >= 10_000.0 => write!(f, "{:.1} us", median / 1e3),
            Self::Nanoseconds(Spread { median, .. }) => write!(f, "{median:.0} ns"),
            Self::Milliseconds(Spread { low, median, high }) => write!(f, "{median:.0} ms ({low:.0}-{high:.0})"),
            Self::Count(count) => write!(f, "{count:.0}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A table, and how to read it.
#[derive(Clone, Debug)]
pub(crate) struct Chapter {
    pub(crate) title: &'static str,
    pub(crate) reading: &'static str,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<(String, Vec<Cell>)>,
}

impl Chapter {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n{}\n\n| |", self.title, self.reading);
        for column in &self.columns {
            text += &format!(" {column} |");
        }
        text += &format!("\n|{}\n", "---|".repeat(self.columns.len() + 1));
        for (name, cells) in &self.rows {
            text += &format!("| {name} |");
            for cell in cells {
                text += &format!(" {cell} |");
            }
            text += "\n";
        }
        text
    }
}

/// Reports progress on standard error.
pub(crate) fn progress(name: &str, cells: &[Cell]) {
    let cells: Vec<String> = cells.iter().map(Cell::to_string).collect();
    eprintln!("{name}: {}", cells.join(" | "));
}

//! The chart: bars for the busiest moment after the return of the server, and lines for how many clients are back.

use svg::Document;
use svg::node::element::{Line, Polyline, Rectangle, Text};

use crate::page::count;
use crate::simulation::{Outcome, S};

const WIDTH: f64 = 820.0;
const LEFT: f64 = 340.0;
const RIGHT: f64 = WIDTH - 80.0;
const ROW: f64 = 24.0;
const TEXT: &str = "#24292f";
const FAINT: &str = "#d0d7de";
const COLOURS: [&str; 6] = ["#1f6feb", "#54aeff", "#bc8c2c", "#8250df", "#1a7f37", "#cf222e"];

/// The lines end here.
const SECONDS: f64 = 180.0;

pub(crate) fn draw(outcomes: &[(&str, Outcome, Outcome)]) -> String {
    let mut chart = Chart { nodes: Vec::new(), y: 10.0 };
    chart.bars(outcomes);
    chart.lines(outcomes);
    let document = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, chart.y))
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 13)
        .add(Rectangle::new().set("width", WIDTH).set("height", chart.y).set("fill", "#ffffff"));
    chart.nodes.into_iter().fold(document, Document::add).to_string()
}

struct Chart {
    nodes: Vec<Box<dyn svg::Node>>,
    y: f64,
}

impl Chart {
    fn bars(&mut self, outcomes: &[(&str, Outcome, Outcome)]) {
        self.text(
            "100,000 clients after 10 minutes: dials in the busiest second after the server is back",
            20.0,
            16.0,
            "start",
        );
        self.y += ROW;
        let most = outcomes.iter().map(|(_, unlimited, _)| unlimited.busiest_second()).max().unwrap_or(1).max(1);
        for ((name, unlimited, _), colour) in outcomes.iter().zip(COLOURS) {
            let peak = unlimited.busiest_second();
            let width = f64::from(peak) / f64::from(most) * (RIGHT - LEFT);
            self.text(&name.replace('`', ""), LEFT - 10.0, 16.0, "end");
            let bar = Rectangle::new().set("x", LEFT).set("y", self.y + 3.0).set("height", ROW - 8.0);
            self.add(bar.set("width", round(width.max(1.0))).set("fill", colour));
            self.text(&count(peak.into()), LEFT + width + 6.0, 16.0, "start");
            self.y += ROW;
        }
        self.y += ROW;
    }

    fn lines(&mut self, outcomes: &[(&str, Outcome, Outcome)]) {
        self.text("How many are back, if the server serves 2,000 dials a second", 20.0, 16.0, "start");
        self.y += ROW + 10.0;
        let (top, height) = (self.y, 260.0);
        let x = |seconds: f64| LEFT + seconds / SECONDS * (RIGHT - LEFT);
        for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let y = top + height * (1.0 - part);
            self.add(Line::new().set("x1", LEFT).set("x2", RIGHT).set("y1", y).set("y2", y).set("stroke", FAINT));
            self.y = y;
            self.text(&format!("{:.0} %", part * 100.0), RIGHT + 6.0, 4.0, "start");
        }
        for seconds in (0..=SECONDS as u32).step_by(30) {
            self.y = top + height;
            self.text(&format!("{seconds} s"), x(seconds.into()), 18.0, "middle");
        }
        for (index, ((name, _, limited), colour)) in outcomes.iter().zip(COLOURS).enumerate().rev() {
            let mut points = vec![format!("{},{}", x(0.0), top + height)];
            let step = (limited.back.len() / 200).max(1);
            for (count, back) in limited.back.iter().enumerate().skip(step - 1).step_by(step) {
                let seconds = *back as f64 / S as f64;
                let y = top + height * (1.0 - (count + 1) as f64 / limited.back.len() as f64);
                if seconds > SECONDS {
                    break;
                }
                points.push(format!("{},{}", round(x(seconds)), round(y)));
            }
            let within = limited.back.iter().take_while(|back| **back as f64 / S as f64 <= SECONDS).count();
            let y = top + height * (1.0 - within as f64 / limited.back.len() as f64);
            points.push(format!("{},{}", RIGHT, round(y)));
            let line = Polyline::new().set("points", points.join(" ")).set("fill", "none").set("stroke", colour);
            self.add(line.set("stroke-width", 2));
            self.y = top + index as f64 * ROW;
            self.add(
                Rectangle::new()
                    .set("x", 20)
                    .set("y", self.y + 4.0)
                    .set("width", 14)
                    .set("height", 4)
                    .set("fill", colour),
            );
            self.text(&name.replace('`', ""), 40.0, 12.0, "start");
        }
        self.y = top + height + 2.0 * ROW;
    }

    fn text(&mut self, text: &str, x: f64, down: f64, anchor: &str) {
        let text = Text::new(text).set("x", round(x)).set("y", self.y + down).set("text-anchor", anchor);
        self.add(text.set("fill", TEXT));
    }

    fn add(&mut self, node: impl Into<Box<dyn svg::Node>>) {
        self.nodes.push(node.into());
    }
}

/// To a tenth of a point.
fn round(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

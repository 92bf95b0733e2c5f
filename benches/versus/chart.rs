//! The chart: a dot for each median, a line from quartile to quartile. A value beyond the axis is drawn at its end.

use svg::Document;
use svg::node::element::{Circle, Line, Rectangle, Text};

use super::table::{Chapter, Spread};

const WIDTH: f64 = 820.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = WIDTH - 30.0;
const ROW: f64 = 24.0;
const TEXT: &str = "#24292f";
const FAINT: &str = "#d0d7de";

/// The drawn columns of a chapter: index, colour and name.
type Series = [(usize, &'static str, &'static str); 2];

const STREAMS: Series = [(1, "#bc8c2c", "stubborn-io"), (2, "#1f6feb", "perconn")];
const WRITERS: Series = [(1, "#bc8c2c", "stubborn-io behind a mutex"), (3, "#1f6feb", "SharedConn")];

pub(crate) fn draw(chapters: &[Chapter]) -> String {
    let has = |chapter: &&Chapter, series: &Series| {
        chapter.rows.iter().any(|(_, cells)| cells.get(series[1].0).is_some_and(|cell| cell.speed().is_some()))
    };
    let (writers, others): (Vec<&Chapter>, Vec<&Chapter>) =
        chapters.iter().filter(|chapter| has(chapter, &STREAMS)).partition(|chapter| chapter.columns.len() == 5);
    let mut page = Page { nodes: Vec::new(), y: 10.0 };
    page.panel("One connection: speed beside the bare TcpStream (1 = as fast)", &others, &STREAMS, 0.6..1.2, 0.1);
    page.panel(
        "Many tasks, one connection: speed beside a TcpStream behind a mutex",
        &writers,
        &WRITERS,
        0.0..8.0,
        1.0,
    );
    let document = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, page.y))
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 13)
        .add(Rectangle::new().set("width", WIDTH).set("height", page.y).set("fill", "#ffffff"));
    page.nodes.into_iter().fold(document, Document::add).to_string()
}

struct Page {
    nodes: Vec<Box<dyn svg::Node>>,
    y: f64,
}

impl Page {
    fn panel(&mut self, title: &str, chapters: &[&Chapter], series: &Series, range: std::ops::Range<f64>, step: f64) {
        self.text(title, 20.0, 16.0, "start", TEXT);
        let mut x = LEFT;
        self.y += ROW;
        for (_, colour, name) in series {
            self.add(Circle::new().set("cx", x).set("cy", self.y + 10.0).set("r", 5).set("fill", *colour));
            self.text(name, x + 12.0, 14.0, "start", TEXT);
            x += 200.0;
        }
        self.y += ROW + 4.0;
        let rows: Vec<_> = chapters.iter().flat_map(|chapter| &chapter.rows).collect();
        let bottom = self.y + rows.len() as f64 * ROW;
        let at = |value: f64| {
            let part = (value.clamp(range.start, range.end) - range.start) / (range.end - range.start);
            LEFT + part * (RIGHT - LEFT)
        };
        for mark in 0..=((range.end - range.start) / step).round() as usize {
            let value = range.start + mark as f64 * step;
            let colour = if (value - 1.0).abs() < 1e-6 { TEXT } else { FAINT };
            let line = Line::new().set("x1", at(value)).set("x2", at(value)).set("y1", self.y).set("y2", bottom);
            self.add(line.set("stroke", colour));
            let top = std::mem::replace(&mut self.y, bottom);
            let digits = usize::from(step < 1.0);
            self.text(&format!("{value:.digits$}"), at(value), 16.0, "middle", TEXT);
            self.y = top;
        }
        for (name, cells) in rows {
            self.text(name, LEFT - 10.0, 16.0, "end", TEXT);
            for (place, (column, colour, _)) in series.iter().enumerate() {
                let Some(Spread { low, median, high }) = cells.get(*column).and_then(|cell| cell.speed()) else {
                    continue;
                };
                let y = self.y + 8.0 + place as f64 * 8.0;
                let line = Line::new().set("x1", at(low)).set("x2", at(high)).set("y1", y).set("y2", y);
                self.add(line.set("stroke", *colour).set("stroke-width", 2));
                self.add(Circle::new().set("cx", at(median)).set("cy", y).set("r", 4).set("fill", *colour));
            }
            self.y += ROW;
        }
        self.y = bottom + 2.0 * ROW;
    }

    fn text(&mut self, text: &str, x: f64, down: f64, anchor: &str, colour: &str) {
        let text = Text::new(text).set("x", x).set("y", self.y + down).set("text-anchor", anchor).set("fill", colour);
        self.add(text);
    }

    fn add(&mut self, node: impl Into<Box<dyn svg::Node>>) {
        self.nodes.push(node.into());
    }
}

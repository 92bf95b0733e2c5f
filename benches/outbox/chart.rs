//! The chart of [`kills`](super::kills): a bar for what each client has lost.

use std::path::Path;

use svg::Document;
use svg::node::element::{Rectangle, Text};

use crate::kills::Outcome;

const WIDTH: f64 = 820.0;
const LEFT: f64 = 440.0;
const ROW: f64 = 26.0;
const TEXT: &str = "#24292f";

/// Draws it into the documentation.
pub(crate) fn draw(outcomes: &[Outcome]) {
    let height = ROW * (outcomes.len() as f64 + 1.5);
    let mut document = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 13)
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#ffffff"))
        .add(
            Text::new("Lost of a million lines, at full speed, through 50 kills of the server")
                .set("x", 10)
                .set("y", 18)
                .set("fill", TEXT),
        );
    for (row, outcome) in outcomes.iter().enumerate() {
        let y = ROW * (row as f64 + 1.2);
        let part = outcome.lost as f64 / outcome.lines as f64;
        let name = outcome.name.replace('`', "");
        let colour = if name.starts_with("Outbox") { "#1f6feb" } else { "#bc8c2c" };
        let width = part * (WIDTH - LEFT - 70.0);
        document = document
            .add(Text::new(name).set("x", LEFT - 10.0).set("y", y + 15.0).set("text-anchor", "end").set("fill", TEXT))
            .add(
                Rectangle::new()
                    .set("x", LEFT)
                    .set("y", y + 3.0)
                    .set("width", width.max(1.0))
                    .set("height", ROW - 10.0)
                    .set("fill", colour),
            )
            .add(
                Text::new(format!("{:.1} %", part * 100.0))
                    .set("x", LEFT + width + 6.0)
                    .set("y", y + 15.0)
                    .set("fill", TEXT),
            );
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/delivery.svg");
    svg::save(file, &document).expect("docs/delivery.svg can be written");
}

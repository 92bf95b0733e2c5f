//! The default logger writes failures to the `log` crate. In a process of its own, as a process has one log backend.

mod support;

use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};

use perconn::Conn;
use support::{HANG_LIMIT, refused_address};

struct Capture(Mutex<Option<Sender<(log::Level, String, String)>>>);

static CAPTURE: Capture = Capture(Mutex::new(None));

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = (record.level(), record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap().as_ref().unwrap().send(line).unwrap();
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn failed_dial_is_a_warning_with_its_cause() {
    let (sender, lines) = mpsc::channel();
    *CAPTURE.0.lock().unwrap() = Some(sender);
    log::set_logger(&CAPTURE).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let address = refused_address().await;
    assert!(Conn::connect(address).await.is_err());
    // A thread logs the line. What it logs next belongs to the next dial.
    let other = refused_address().await;
    assert!(Conn::connect(other).await.is_err());
    let mut ours =
        std::iter::from_fn(|| lines.recv_timeout(HANG_LIMIT).ok()).filter(|(_, target, _)| target == "perconn");
    let [(level, _, text), (_, _, next)] = std::array::from_fn(|_| ours.next().unwrap());
    assert!(next.starts_with(&format!("dial 1 to {other} failed: ")), "{next}");
    assert_eq!(level, log::Level::Warn);
    assert!(text.starts_with(&format!("dial 1 to {address} failed: ")), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

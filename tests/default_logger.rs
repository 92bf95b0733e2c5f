//! The default logger writes failures to the `log` crate. In a process of its own, as a process has one log backend.

mod support;

use std::sync::Mutex;

use perconn::Conn;
use support::refused_address;

struct Capture(Mutex<Vec<(log::Level, String, String)>>);

static CAPTURE: Capture = Capture(Mutex::new(Vec::new()));

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = (record.level(), record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn failed_dial_is_a_warning_with_its_cause() {
    log::set_logger(&CAPTURE).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let address = refused_address().await;
    assert!(Conn::connect(address).await.is_err());
    let lines = CAPTURE.0.lock().unwrap();
    let ours: Vec<_> = lines.iter().filter(|(_, target, _)| target == "perconn").collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    let (level, _, text) = ours[0];
    assert_eq!(*level, log::Level::Warn);
    assert!(text.starts_with(&format!("dial 1 to {address} failed: ")), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

//! A backend of `log` that panics, as those do that print to where nobody reads. In a process of its own, as that has one.

mod support;

use std::time::Duration;

use perconn::acceptor::{Acceptor, AcceptorBuilder, Event};
use support::in_time;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

struct Panics;

impl log::Log for Panics {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        assert!(record.target() != "perconn", "failed printing to stderr");
    }

    fn flush(&self) {}
}

static PANICS: Panics = Panics;

/// Its hook panics, which is told to the default logger.
fn acceptor(panics_at: fn(&Event) -> bool) -> AcceptorBuilder {
    let _ = log::set_logger(&PANICS);
    log::set_max_level(log::LevelFilter::Trace);
    let builder = Acceptor::builder("127.0.0.1:0").acceptors(2).handler(async |_stream, _| Ok(()));
    builder.on_event(move |event| assert!(!panics_at(event), "the hook"))
}

/// The end of the stream, or a reset.
async fn visit(acceptor: &Acceptor) {
    let mut stream = in_time("connect", TcpStream::connect(acceptor.local_addr().unwrap())).await.unwrap();
    let _ = in_time("its end", stream.read(&mut [0])).await;
}

async fn all_gone(acceptor: &Acceptor, accepted: u64) {
    let wait = async {
        while (acceptor.stats().busy, acceptor.stats().accepted) != (0, accepted) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time("all are gone", wait).await;
}

#[tokio::test]
async fn logger_that_panics_at_the_end_of_a_connection_leaks_no_acceptor() {
    let acceptor = acceptor(|event| matches!(event, Event::Closed { .. })).build().unwrap();
    for _ in 0..6 {
        visit(&acceptor).await;
    }
    all_gone(&acceptor, 6).await;
}

#[tokio::test]
async fn logger_that_panics_at_the_beginning_of_a_connection_does_not_end_the_accept_loop() {
    let acceptor = acceptor(|event| matches!(event, Event::Accepted { .. })).build().unwrap();
    for _ in 0..3 {
        visit(&acceptor).await;
    }
    all_gone(&acceptor, 3).await;
}

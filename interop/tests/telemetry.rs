//! What `tracing` and `metrics` get to see. Each test has a process-wide recorder or a subscriber of its own thread.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use perconn::acceptor::Acceptor;
use perconn::outbox::Outbox;
use perconn::pool::Pool;
use perconn::{Conn, metrics};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::support::{Server, in_time, quick, reset, wait_for_generation};

#[path = "../../tests/support/mod.rs"]
mod support;

/// One test at a time: whether an event is of interest is cached for the whole process, and a subscriber of another thread that
/// comes or goes at the same moment can hide one.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The samples of a page of Prometheus whose name and attributes start like this, and their sum.
fn sum(page: &str, start: &str) -> f64 {
    page.lines()
        .filter(|line| line.starts_with(start))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// The names of this crate's metrics in a text, without the endings of a histogram.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
    words
        .filter(|word| word.starts_with("perconn_"))
        .map(|word| {
            ["_bucket", "_sum", "_count"].iter().fold(word, |word, end| match word {
                // This one is no histogram.
                "perconn_pool_connection_count" => word,
                _ => word.strip_suffix(end).unwrap_or(word),
            })
        })
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_metric_of_the_docs_and_the_dashboard_is_recorded() {
    let _turn = TURN.lock().await;
    let recorder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("duration".into()), &[0.1, 1.0, 10.0]);
    let recorded = recorder.unwrap().install_recorder().unwrap();
    metrics::describe();

    // A connection with a break and a failed dial.
    let mut server = Server::start().await;
    let (conn, mut peer) = tokio::join!(server.client().name("billing-db").connect(), server.accept());
    let mut conn = conn.unwrap();
    conn.write_all(b"twelve bytes").await.unwrap();
    peer.read_exact(&mut [0; 12]).await.unwrap();
    server.stop();
    reset(peer);
    conn.read(&mut [0]).await.unwrap_err();
    while conn.stats().failed_dials == 0 {
        tokio::task::yield_now().await;
    }
    server.restart().await;
    let _peer = server.accept().await;
    wait_for_generation(&conn, 2).await;
    conn.stats().record_metrics("billing-db");

    let acceptor = Acceptor::builder("127.0.0.1:0").handler(|mut stream: perconn::acceptor::Stream, _| async move {
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    });
    let acceptor = acceptor.build().unwrap();
    let address = acceptor.local_addr().unwrap();
    let pool = Pool::new(3).unwrap();
    let resource = pool.resource(address.to_string()).unwrap();
    for _ in 0..2 {
        // The second one is counted as reused when it is given back.
        drop(resource.get().await.unwrap());
    }
    let guard = resource.get().await.unwrap();
    pool.stats().record_metrics("backends");

    let outbox = Outbox::builder(quick(Conn::builder(address))).start().unwrap();
    outbox.send("a line\n").await.unwrap();
    outbox.flush().await;
    outbox.tally().record_metrics("lines");
    in_time("the acceptor has both", async {
        while acceptor.stats().accepted < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    acceptor.stats().record_metrics("front");

    let page = recorded.render();
    for (start, expected) in [
        ("perconn_connected{connection=\"billing-db\"}", 1.0),
        ("perconn_links{connection=\"billing-db\"}", 2.0),
        ("perconn_breaks{connection=\"billing-db\",cause=\"reset\"}", 1.0),
        ("perconn_breaks{connection=\"billing-db\"", 1.0),
        ("perconn_network_io{connection=\"billing-db\",network_io_direction=\"transmit\"}", 12.0),
        ("perconn_dial_duration_count{connection=\"billing-db\"}", 2.0),
        ("perconn_link_duration_count{connection=\"billing-db\",error_type=\"ConnectionReset\"}", 1.0),
        ("perconn_pool_connection_count{pool=\"backends\",state=\"used\"}", 1.0),
        ("perconn_pool_connection_reused{pool=\"backends\"}", 1.0),
        ("perconn_acceptor_accepted{acceptor=\"front\"}", 2.0),
        ("perconn_outbox_messages{outbox=\"lines\",fate=\"written\"}", 1.0),
    ] {
        assert_eq!(sum(&page, start), expected, "{start}\n{page}");
    }
    let failed = sum(&page, "perconn_dial_duration_count{connection=\"billing-db\",error_type=\"ConnectionRefused\"}");
    assert!(failed >= 1.0 && sum(&page, "perconn_dials_failed{connection=\"billing-db\"}") >= failed, "{page}");

    let recorded = names(&page);
    let dashboard: Value = serde_json::from_str(include_str!("../../docs/dashboard.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: String = targets.map(|target| target["expr"].as_str().unwrap().to_owned() + "\n").collect();
    let missing: Vec<_> = names(&queries).difference(&recorded).cloned().collect();
    assert!(missing.is_empty(), "queries of the dashboard: {missing:?}");
    assert!(names(&queries).len() > 15);
    let docs = include_str!("../../src/metrics.rs").lines().take_while(|line| line.starts_with("//!"));
    let docs: String = docs
        .map(|line| line.replace("perconn.", "perconn_").replace(", `.", ", `perconn_pool_connection_") + "\n")
        .collect();
    let in_docs: BTreeSet<_> = names(&docs).into_iter().map(|name| name.replace('.', "_")).collect();
    let undocumented: Vec<_> = recorded.difference(&in_docs).collect();
    assert!(undocumented.is_empty(), "{undocumented:?} of {in_docs:?}");
    drop(guard);
}

/// The lines of a subscriber.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn spans_of_connection_dial_and_link_hold_what_happens_in_them() {
    let _turn = TURN.lock().await;
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG);
    let subscriber = subscriber.with_writer(move || writer.clone());
    // The tasks of this runtime are on this thread.
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let server = Server::start().await;
    let builder = quick(Conn::builder(server.address)).name("billing-db").and_then(|stream: TcpStream| async move {
        tracing::info!("logging in");
        Ok(stream)
    });
    let (conn, peer) = tokio::join!(builder.connect(), server.accept());
    let mut conn = conn.unwrap();
    reset(peer);
    conn.read(&mut [0]).await.unwrap_err();
    let _peer = server.accept().await;
    wait_for_generation(&conn, 2).await;
    in_time("close", conn.close()).await;

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |message: &str, number: usize| {
        let mut found = events.iter().filter(|event| event["fields"]["message"] == message);
        found.nth(number).unwrap_or_else(|| panic!("{message} {number}: {text}"))
    };
    let spans = |event: &Value| -> Vec<String> {
        event["spans"].as_array().unwrap().iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
    };
    for (number, generation) in [(0, 1), (1, 2)] {
        let login = find("logging in", number);
        assert_eq!(spans(login), ["connection", "dial"]);
        assert_eq!(login["spans"][0]["name"], "connection");
        let connected = find("connected", number);
        assert_eq!(spans(connected), ["connection", "link"]);
        assert_eq!(connected["spans"][1]["generation"], generation);
    }
    let disconnected = find("disconnected", 0);
    assert_eq!(
        (spans(disconnected), &disconnected["level"]),
        (vec!["connection".into(), "link".into()], &"WARN".into())
    );
    let error = disconnected["fields"]["error"].as_str().unwrap();
    assert!(error.contains("billing-db") && error.to_lowercase().contains("reset"), "{error}");
    assert_eq!(spans(find("closed", 0)), ["connection"]);
    assert!(text.contains(&format!("\"server.address\":\"{}\"", server.address)), "{text}");
}

#[tokio::test(start_paused = true)]
async fn failures_of_a_long_outage_are_warnings_only_now_and_then() {
    let _turn = TURN.lock().await;
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG);
    let subscriber = subscriber.with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let dialer = perconn::dial_fn(|| std::future::ready(Err::<TcpStream, _>(io::ErrorKind::ConnectionRefused.into())));
    let conn = Conn::builder("refused").dialer(dialer).build().unwrap();
    tokio::time::sleep(Duration::from_secs(10 * 3600)).await;
    conn.close().await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let count = |level: &str| {
        let is_it = |line: &&str| line.contains("dial failed") && line.contains(&format!("\"level\":\"{level}\""));
        text.lines().filter(is_it).count()
    };
    assert!(count("DEBUG") > 500, "{}", count("DEBUG"));
    assert!((10..40).contains(&count("WARN")), "{}", count("WARN"));
}

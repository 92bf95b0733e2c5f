//! RELP, to rsyslog's `imrelp`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use perconn::Conn;
use perconn::outbox::Fate;
use perconn::outbox::protocols::Relp;

use crate::numbered::{Plan, ship};
use crate::real_server::RealServer;
use crate::rsyslog::{arrived, message, rsyslog};
use crate::support::{in_time, quick};

/// An rsyslog with `imrelp`.
pub fn server(test: &str) -> Option<RealServer> {
    rsyslog(test, &["imrelp"], input)
}

fn input(_: &Path, port: u16) -> String {
    format!(
        "module(load=\"imrelp\")
            input(type=\"imrelp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"file\")"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn relp_loses_nothing_through_kills_of_rsyslog() {
    let Some(server) = server("relp") else { return };
    let plan = Plan::from_env(20_000, 5);
    let outbox = Relp::new().outbox(quick(Conn::builder(server.address))).window(1024).start().unwrap();
    let tally = ship(outbox, &server, plan, message).await;
    arrived(&server, plan.messages).await.assert_at_least_once(&tally, plan, 1024);
}

#[tokio::test]
async fn relp_closes_cleanly_and_takes_long_messages_and_newlines() {
    let Some(server) = server("relp, closing") else { return };
    let outbox = Relp::new().outbox(Conn::builder(server.address)).start().unwrap();
    let long = format!("<13>1 - - - - - - {}", "x".repeat(100_000));
    assert_eq!(in_time("a long message", outbox.send_and_wait(long.clone())).await.unwrap(), Fate::Answered);
    let lines = "<13>1 - - - - - - one\ntwo";
    assert_eq!(in_time("two lines", outbox.send_and_wait(lines)).await.unwrap(), Fate::Answered);
    let longer = outbox.send(vec![b'x'; 128 * 1024 + 1]).await.unwrap_err();
    assert!(longer.to_string().contains("131072"), "{longer}");
    assert_eq!(in_time("close", outbox.close(Duration::from_secs(5))).await.to_string(), "2 accepted: 2 answered");
    let text = fs::read_to_string(server.folder.join("arrived")).unwrap();
    assert!(text.contains(&long), "{}", text.len());
    // rsyslog complains of a session that ends without a `close`: only the look whether it listens was one.
    server.end_by(rustix::process::Signal::TERM);
    assert_eq!(server.log().matches("session broken").count(), 1, "{}", server.log());
}

#[tokio::test]
async fn rsyslog_that_cannot_write_holds_its_answer_back() {
    let server = rsyslog("relp, no file", &["imrelp"], |folder, port| {
        fs::create_dir(folder.join("arrived")).unwrap(); // Where the file should be.
        input(folder, port)
    });
    let Some(server) = server else { return };
    let outbox = Relp::new().outbox(quick(Conn::builder(server.address))).start().unwrap();
    outbox.send(message(1)).await.unwrap();
    in_time("rsyslog's complaint", async {
        while !server.log().contains("open error") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(outbox.tally().waiting, 1);
    fs::remove_dir(server.folder.join("arrived")).unwrap();
    in_time("the answer", outbox.flush()).await;
    assert_eq!(outbox.tally().answered, 1);
    assert_eq!(arrived(&server, 1).await.distinct, 1);
}

//! Syslog over TCP, to rsyslog's `imtcp`.
//!
//! It answers nothing, so a kill may cost messages. What the tally says is checked against what arrived: nothing
//! arrives twice, nothing out of order, and each message is written or in doubt. How many of the written ones a killed
//! rsyslog loses is printed.

use perconn::Conn;
use perconn::outbox::Event;
use perconn::outbox::protocols::Syslog;

use crate::numbered::{Arrived, Plan, ship};
use crate::real_server::RealServer;
use crate::rsyslog::{arrived, message, rsyslog};
use crate::support::{in_time, quick};

pub fn server(test: &str) -> Option<RealServer> {
    rsyslog(test, &["imtcp"], |_, port| {
        format!(
            "module(load=\"imtcp\")
            input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"file\")"
        )
    })
}

/// Ships the plan, and counts.
async fn through(syslog: Syslog, server: &RealServer, plan: Plan) -> Arrived {
    let outbox = syslog.outbox(quick(Conn::builder(server.address))).start().unwrap();
    let tally = ship(outbox, server, plan, message).await;
    assert_eq!(tally.written + tally.in_doubt, plan.messages, "{tally}");
    let arrived = arrived(server, plan.messages).await;
    println!("{} of {} written messages were lost", arrived.lost.saturating_sub(tally.in_doubt), tally.written);
    assert!(arrived.in_order && arrived.twice == 0, "{arrived}");
    arrived
}

#[tokio::test(flavor = "multi_thread")]
async fn octet_counting_accounts_for_every_message_through_kills_of_rsyslog() {
    let Some(server) = server("octet counting") else { return };
    through(Syslog::octet_counting(), &server, Plan::from_env(20_000, 5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_account_for_every_message_through_kills_of_rsyslog() {
    let Some(server) = server("lines") else { return };
    through(Syslog::lines(), &server, Plan::from_env(20_000, 5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_kill_nothing_is_lost() {
    for syslog in [Syslog::octet_counting(), Syslog::lines()] {
        let Some(server) = server("no kill") else { return };
        let plan = Plan { messages: 20_000, kills: 0 };
        let arrived = through(syslog, &server, plan).await;
        assert_eq!(arrived.lost, 0, "{arrived}");
    }
}

#[tokio::test]
async fn a_line_with_a_newline_is_rejected_and_the_next_one_arrives() {
    let Some(server) = server("a newline") else { return };
    let (events, mut rejected) = tokio::sync::mpsc::unbounded_channel();
    let outbox = Syslog::lines()
        .outbox(quick(Conn::builder(server.address)))
        .on_event(move |event| {
            if let Event::Rejected { number, reason, .. } = event {
                let _ = events.send((*number, reason.clone()));
            }
        })
        .start()
        .unwrap();
    outbox.send("<13>1 - - - - - - one\ntwo").await.unwrap();
    outbox.send(message(1)).await.unwrap();
    let (number, reason) = in_time("the event", rejected.recv()).await.unwrap();
    assert!(number == 1 && reason.contains("newline"), "{number}: {reason}");
    let tally = outbox.close(std::time::Duration::from_secs(5)).await;
    assert_eq!(tally.to_string(), "2 accepted: 1 rejected, 1 written");
    assert_eq!(arrived(&server, 1).await.distinct, 1);
}

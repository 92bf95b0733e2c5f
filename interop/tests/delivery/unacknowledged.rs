//! `Resend::Unacknowledged` to rsyslog's `imtcp`: which messages a kill costs, and which arrive twice, to the message.
//!
//! Each life of rsyslog has one link. Its first message has to be the first one that the kernel of the life before had not
//! acknowledged, and the others follow one by one: as far as rsyslog has read. So what is lost lies between what a killed rsyslog
//! has read and what its kernel had acknowledged, and what arrives twice was read without its acknowledgement.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perconn::outbox::protocols::Syslog;
use perconn::outbox::{Outbox, Resend};
use perconn::{Conn, Error, Event};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::sleep;

use crate::numbered::{Arrived, Plan, settled, tags_in};
use crate::rsyslog::{arrived, message};
use crate::support::{HANG_LIMIT, in_time, quick};
use crate::syslog;

/// No message has more bytes on the wire.
const LONGEST: u64 = 70;

/// What a life of rsyslog has read.
struct Life {
    /// The highest number that was acknowledged before it.
    before: u64,
    /// The numbers in its part of the file.
    numbers: Vec<u64>,
}

// One thread: when a dial has failed after a break, the outbox has seen that break.
#[tokio::test]
async fn unacknowledged_lines_that_are_lost_through_kills_of_rsyslog_were_in_its_kernel() {
    through("unacknowledged lines", Syslog::lines()).await;
}

#[tokio::test]
async fn unacknowledged_octet_counted_messages_that_are_lost_through_kills_of_rsyslog_were_in_its_kernel() {
    through("unacknowledged octet counting", Syslog::octet_counting()).await;
}

/// Each time that another part of the plan is acknowledged, rsyslog is stopped, so that its kernel's buffer fills up, and killed.
async fn through(test: &str, syslog: Syslog) {
    let Some(server) = syslog::server(test) else { return };
    let plan = Plan::from_env(20_000, 5);
    let (events, mut event) = unbounded_channel();
    let conn = quick(Conn::builder(server.address)).on_event(move |event: &Event| {
        let _ = events.send(event.clone());
    });
    let outbox = syslog.outbox(conn).resend(Resend::Unacknowledged).capacity(500).start().unwrap();
    let is_enough = Arc::new(AtomicBool::new(false));
    let sender = tokio::spawn(send(outbox.clone(), Arc::clone(&is_enough)));
    let (mut lives, mut before, mut read, mut unacknowledged) = (Vec::new(), 0, 0, 0);
    for _ in 0..plan.kills {
        settled(&outbox, before + plan.messages / (plan.kills + 1)).await;
        server.freeze();
        let accepted = stalled(&outbox).await;
        server.kill();
        let bytes = lost_link(&mut event).await;
        // What the kernels say is not with rsyslog's, the outbox still has.
        let kept = accepted - outbox.tally().written;
        assert!(kept >= bytes / LONGEST, "{kept} messages are sent again, but {bytes} bytes were unacknowledged");
        unacknowledged += bytes;
        let text = fs::read(server.folder.join("arrived")).unwrap_or_default();
        lives.push(Life { before, numbers: tags_in(&text[read..]).collect() });
        (before, read) = (outbox.tally().written, text.len());
        server.start_again();
    }
    // The last ones are sent after the last kill, so that they arrive in any case.
    is_enough.store(true, Ordering::Relaxed);
    let messages = in_time("the last message", sender).await.unwrap();
    let tally = outbox.close(HANG_LIMIT).await;
    println!("{} kills, with {unacknowledged} unacknowledged bytes: {tally}", plan.kills);
    let all = arrived(&server, messages).await;
    let text = fs::read(server.folder.join("arrived")).unwrap();
    lives.push(Life { before, numbers: tags_in(&text[read..]).collect() });

    // Nothing is in doubt: what was not acknowledged went again.
    assert_eq!((tally.accepted, tally.written, tally.waiting), (messages, messages, 0), "{tally}");
    assert!(unacknowledged > 0, "this run shows nothing");
    assert_lives(&lives, &all);
}

/// What each life has read begins behind what was acknowledged before, and has no gap. The losses and the repetitions are those
/// between the lives, and no others.
fn assert_lives(lives: &[Life], all: &Arrived) {
    let (mut lost, mut twice) = (0, 0);
    for (number, life) in lives.iter().enumerate() {
        let mut last = life.before;
        for (index, found) in life.numbers.iter().enumerate() {
            assert_eq!(*found, last + 1, "message {index} of life {number}, after {} acknowledged ones", life.before);
            last = *found;
        }
        if let Some(next) = lives.get(number + 1) {
            lost += next.before.saturating_sub(last);
            twice += last.saturating_sub(next.before);
        }
    }
    assert_eq!((all.lost, all.twice, all.in_order), (lost, twice, true), "{all}");
}

/// Sends messages until it is enough, and one more. Returns how many.
async fn send(outbox: Outbox, is_enough: Arc<AtomicBool>) -> u64 {
    let mut number = 0;
    let mut is_last = false;
    while !is_last {
        is_last = is_enough.load(Ordering::Relaxed);
        number += 1;
        outbox.send(message(number)).await.unwrap();
    }
    number
}

/// Waits until the outbox takes no more messages, as the buffers of the kernels are full. Returns how many it has taken. It asks
/// its kernel every 100 ms what is acknowledged: three times nothing is the end.
async fn stalled(outbox: &Outbox) -> u64 {
    let mut progress = (0, 0);
    in_time("full buffers", async {
        while progress.1 < 60 {
            let accepted = outbox.tally().accepted;
            progress = if accepted == progress.0 { (accepted, progress.1 + 1) } else { (accepted, 0) };
            sleep(Duration::from_millis(5)).await;
        }
        progress.0
    })
    .await
}

/// Waits for a break and the failed dial after it. Returns how many bytes were unacknowledged.
async fn lost_link(events: &mut UnboundedReceiver<Event>) -> u64 {
    let mut unacknowledged = None;
    in_time("a break and a failed dial", async {
        loop {
            match (events.recv().await.unwrap(), unacknowledged) {
                (Event::Disconnected { cause, .. }, _) => {
                    let Error::IoError { unacknowledged: bytes, .. } = &*cause else { panic!("{cause}") };
                    unacknowledged = Some(bytes.unwrap_or(0));
                }
                (Event::DialFailed { .. }, Some(bytes)) => return bytes,
                _ => {}
            }
        }
    })
    .await
}

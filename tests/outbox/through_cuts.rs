//! Numbered messages with answers through a proxy that cuts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::Conn;
use perconn::outbox::{Answer, Answers, Outbox, Resend};
use perconn::testing::{Cut, FaultProxy, Link};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::codec::LinesCodec;

use crate::support::{in_time, quick};

const WINDOW: usize = 500;

/// What the server has got: one list of numbers for each link.
type Links = Arc<Mutex<Vec<Vec<u64>>>>;

/// A server that answers each line by its number, as soon as it has counted it. `one_by_one`: else all up to the last.
async fn server(one_by_one: bool) -> (std::net::SocketAddr, Links) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, links) = (listener.local_addr().unwrap(), Links::default());
    let all = Arc::clone(&links);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let link = {
                let mut all = all.lock().unwrap();
                all.push(Vec::new());
                all.len() - 1
            };
            tokio::spawn(serve(stream, Arc::clone(&all), link, one_by_one));
        }
    });
    (address, links)
}

async fn serve(mut stream: tokio::net::TcpStream, all: Links, link: usize, one_by_one: bool) {
    let (mut bytes, mut answers) = (Vec::new(), Vec::new());
    while let Ok(1..) = stream.read_buf(&mut bytes).await {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut last = None;
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            let number: u64 = std::str::from_utf8(line).unwrap().trim().parse().unwrap();
            all.lock().unwrap()[link].push(number);
            last = Some(number);
            if one_by_one {
                answers.extend_from_slice(format!("one {number}\n").as_bytes());
            }
        }
        if let (Some(number), false) = (last, one_by_one) {
            answers.extend_from_slice(format!("upto {number}\n").as_bytes());
        }
        bytes.drain(..whole);
        if stream.write_all(&answers).await.is_err() {
            break;
        }
        answers.clear();
    }
}

fn parse(line: String) -> std::io::Result<Answer> {
    let number = |text: &str| text.parse().map_err(std::io::Error::other);
    match line.split_once(' ') {
        Some(("one", text)) => number(text).map(Answer::One),
        Some(("upto", text)) => number(text).map(Answer::UpTo),
        _ => Err(std::io::Error::other(line)),
    }
}

/// Sends `count` messages through `cuts` cuts: nothing is lost, the order is kept, and at most a window comes twice.
async fn run(count: u64, cuts: usize, one_by_one: bool) {
    let (address, links) = server(one_by_one).await;
    let proxy = FaultProxy::start(address).await.unwrap();
    // Every kind of cut, in the middle of a message or of an answer.
    let script: Vec<Link> = (0..cuts as u64)
        .map(|cut| match cut % 4 {
            0 => Link::pass().cut_after(3_000 + cut * 37, Cut::Reset),
            1 => Link::pass().cut_after_from_server(1_000 + cut * 13, Cut::Close),
            2 => Link::pass().cut_after(5_000 + cut * 29, Cut::Close),
            _ => Link::pass().cut_after_from_server(1 + cut * 17, Cut::Reset),
        })
        .collect();
    proxy.script(script);
    let answers = Answers::new(|| LinesCodec::new_with_max_length(100), parse);
    let outbox = Outbox::builder(quick(Conn::builder(proxy.addr())))
        .resend(Resend::Unanswered(answers))
        .window(WINDOW)
        .start()
        .unwrap();
    for number in 1..=count {
        assert_eq!(outbox.send(format!("{number}\n")).await.unwrap(), number);
    }
    in_time("flush", outbox.flush()).await;
    let tally = in_time("close", outbox.close(Duration::from_secs(10))).await;
    assert_eq!((tally.accepted, tally.answered), (count, count), "{tally}");

    let links = links.lock().unwrap();
    assert!(links.len() > cuts, "only {} links", links.len());
    let (mut highest, mut twice) = (0, 0);
    for link in &*links {
        // Without a gap: what is sent again comes before anything new.
        assert!(link.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the order of a link");
        for number in link {
            assert!(*number <= highest + 1, "{number} after {highest}: a message is missing");
            twice += u64::from(*number <= highest);
            highest = highest.max(*number);
        }
    }
    println!("{count} messages, {} links, {twice} twice", links.len());
    assert_eq!(highest, count, "nothing is lost");
    assert!(twice <= (cuts * WINDOW) as u64, "{twice} came twice");
}

#[tokio::test]
async fn answered_one_by_one_100_000_messages_pass_100_cuts_and_none_is_lost() {
    run(100_000, 100, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answered_up_to_a_number_100_000_messages_pass_100_cuts_and_none_is_lost() {
    run(100_000, 100, false).await;
}

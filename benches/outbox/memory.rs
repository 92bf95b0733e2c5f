//! The memory of a message that waits, beside other queues. Linux only: it reads the resident memory of this process.

use std::collections::VecDeque;
use std::time::Duration;

use perconn::Conn;
use perconn::outbox::Outbox;

use crate::sink::MESSAGE;

/// How many messages wait.
const MESSAGES: usize = 500_000;

pub(crate) fn run() {
    let Some(before) = resident() else { return };
    println!("\n{MESSAGES} messages of {MESSAGE} bytes that wait\n{:<52} {:>9}", "", "each");
    let print = |name: &str, before: usize| {
        let each = resident().unwrap_or(0).saturating_sub(before) as f64 / MESSAGES as f64;
        println!("{name:<52} {each:>7.0} B");
    };
    let message = [b'x'; MESSAGE];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outbox = runtime.block_on(async {
        let conn = Conn::builder("127.0.0.1:1").retry_min(Duration::from_secs(60));
        let outbox = Outbox::builder(conn).capacity(MESSAGES).capacity_bytes(MESSAGES * MESSAGE).start().unwrap();
        for _ in 0..MESSAGES {
            outbox.send(message).await.unwrap();
        }
        outbox
    });
    print("Outbox", before);
    let before = resident().unwrap_or(0);
    let (sender, _receiver) = tokio::sync::mpsc::channel(MESSAGES);
    (0..MESSAGES).for_each(|_| sender.try_send(message.to_vec()).unwrap());
    print("tokio's mpsc channel of Vec<u8>", before);
    let before = resident().unwrap_or(0);
    let queue: VecDeque<Vec<u8>> = (0..MESSAGES).map(|_| message.to_vec()).collect();
    print("VecDeque<Vec<u8>>", before);
    drop((outbox, sender, queue));
}

/// The resident memory of this process, in bytes.
fn resident() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

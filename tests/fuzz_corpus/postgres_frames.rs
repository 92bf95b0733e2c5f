//! Any bytes from a server, during the login or after it: the session ends with an error, and returns just the notifications
//! that were whole, in order.
//!
//! Next: `src/postgres/decoder.rs`.

use std::time::Duration;

use perconn::postgres::{Listener, Notification};
use perconn::testing::{ScriptedDialer, ScriptedStream};
use tokio_postgres::Config;

/// AuthenticationOk and ReadyForQuery.
const LOGIN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// The first byte says how long the pieces are that arrive together; with 0, the login is a part of the others.
pub(crate) fn check(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let login = if *piece == 0 { &b""[..] } else { LOGIN };
    let length = usize::from(*piece).max(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let pieces = bytes.chunks(length);
        let stream = pieces.fold(ScriptedStream::new().expects_anything().sends(login), ScriptedStream::sends);
        let mut config = Config::new();
        config.user("agent").host("server");
        let builder = Listener::builder(config).dialer(ScriptedDialer::new().connects(stream.closes()));
        let session = async {
            let Ok(mut listener) = builder.logger(|_| {}).connect_once().await else { return Vec::new() };
            let mut received = Vec::new();
            while let Ok(notification) = listener.recv().await {
                received.push(notification);
            }
            received
        };
        let received = tokio::time::timeout(Duration::from_secs(3600), session).await.expect("the session ends");
        let sent = notifications(bytes);
        assert!(sent.starts_with(&received), "{received:?} was received of {sent:?}");
    });
}

/// The notifications in a stream of messages, up to what is no message.
fn notifications(mut bytes: &[u8]) -> Vec<Notification> {
    let mut found = Vec::new();
    while let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk() {
        let Some(length) = (u32::from_be_bytes([a, b, c, d]) as usize).checked_sub(4) else { break };
        let Some((body, rest)) = rest.split_at_checked(length) else { break };
        if kind == b'A' {
            found.extend(notification(body));
        }
        bytes = rest;
    }
    found
}

/// A process id, and two texts that each end with a zero.
fn notification(body: &[u8]) -> Option<Notification> {
    let (process_id, texts) = body.split_first_chunk()?;
    let texts: Vec<_> = std::str::from_utf8(texts).ok()?.split('\0').collect();
    match texts[..] {
        [channel, payload, ""] => Some(Notification::new(i32::from_be_bytes(*process_id), channel, payload)),
        _ => None,
    }
}

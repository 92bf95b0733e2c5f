//! The server's program hangs; its machine answers for it.

use std::time::Instant;

use tokio::io::AsyncWriteExt;

use crate::calls::{CALL, Told, call_once, call_until_told, fill, head};
use crate::in_a_lab::in_a_lab;
use crate::net::{LATE, Net, T, limits_since};
use crate::remote::Server;
use crate::server::Mode;
use crate::support::soon;

/// More than all buffers between two programs hold.
const MUCH: usize = 512;

#[test]
fn stopped_server_is_left_alone_without_a_limit_on_its_silence_and_nothing_is_lost() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let idle = net.client().keepalive(T).connect().await.unwrap();
        let mut busy = net.client().keepalive(T).connect().await.unwrap();
        server.stop().await;
        let stopped = Instant::now();
        let writing = tokio::spawn(async move {
            let mut next = 1;
            while next < MUCH as u32 {
                call_once(&mut busy, &mut next).await;
            }
            busy
        });
        tokio::time::sleep(6 * T).await;
        assert!(!writing.is_finished(), "a stopped server has room for everything");
        assert_eq!((idle.generation(), idle.is_connected()), (1, true));
        server.resume().await;
        let mut busy = soon("the rest", writing).await.unwrap();
        net.say(format_args!("stopped for {:.2} T, and nobody was told", limits_since(stopped)));
        assert_eq!(busy.generation(), 1);
        busy.shutdown().await.unwrap();
        assert_eq!(server.began(2).await, head(1));
        let ended = server.ended(2).await;
        assert_eq!((ended.received, ended.how.as_str()), (((MUCH - 1) * CALL) as u64, "closed"));
    });
}

#[test]
fn stopped_server_is_told_of_by_idle_timeout_and_by_user_timeout_once_its_window_is_shut() {
    in_a_lab(async |net: &Net| {
        let server = Server::start(net, Mode::Silent).await;
        let mut reading = net.client().idle_timeout(T).connect().await.unwrap();
        let mut unread = net.client().user_timeout(T).connect().await.unwrap();
        let mut small = net.client().user_timeout(T).connect().await.unwrap();
        server.stop().await;
        let stopped = Instant::now();
        small.write_all(b"the kernel takes this").await.unwrap();
        let told = Told::reading(&mut reading);
        let (shut, reader) = tokio::join!(fill(&mut unread), told);
        reader.is_timeout();
        let after = (reader.at - stopped).as_secs_f64() / T.as_secs_f64();
        net.say(format_args!("idle_timeout: told after {after:.2} T"));
        assert!(0.9 < after && after < LATE, "{after}");
        let writer = soon("user_timeout", call_until_told(&mut unread, &mut 0)).await;
        writer.is_timeout();
        let after = (writer.at - shut).as_secs_f64() / T.as_secs_f64();
        net.say(format_args!("user_timeout: told {after:.2} T after the buffers were full"));
        assert!(0.5 < after && after < LATE, "{after}");
        // What its kernel acknowledges is nobody's loss.
        assert_eq!((small.generation(), small.is_connected()), (1, true));
    });
}

/// On Linux, a window that was shut opens again only when a good part of the buffer has been read: with the buffers that
/// a link begins with, a program that reads less than about 100 kB in each limit looks like one that does not read.
#[test]
fn server_that_reads_too_slowly_to_open_its_window_in_time_counts_as_dead_for_user_timeout() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Crawling).await;
        let mut conn = net.client().user_timeout(T).connect().await.unwrap();
        let shut = fill(&mut conn).await;
        let told = soon("user_timeout", call_until_told(&mut conn, &mut 0)).await;
        told.is_timeout();
        let after = (told.at - shut).as_secs_f64() / T.as_secs_f64();
        net.say(format_args!("told {after:.2} T after the buffers were full"));
        assert!(0.5 < after && after < LATE, "{after}");
    });
}

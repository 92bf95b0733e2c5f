//! The server's process is stopped, and its kernel still acknowledges.

use std::time::Instant;

use tokio::io::AsyncWriteExt;

use crate::calls::{BreakReport, CALL, call_once, call_until_break, fill, head};
use crate::in_a_lab::in_a_lab;
use crate::net::{LATE, Net, T, limits_since};
use crate::server::Mode;
use crate::server_process::Server;
use crate::support::in_time;

/// A number of calls: more than all buffers between the two programs hold.
const CALLS: usize = 512;

#[test]
fn stopped_server_keeps_its_links_without_a_limit_on_its_silence_and_nothing_is_lost() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let idle = net.client().keepalive(T).connect().await.unwrap();
        let mut busy = net.client().keepalive(T).connect().await.unwrap();
        server.stop().await;
        let stopped = Instant::now();
        let writing = tokio::spawn(async move {
            let mut next = 1;
            while next < CALLS as u32 {
                call_once(&mut busy, &mut next).await;
            }
            busy
        });
        tokio::time::sleep(6 * T).await;
        assert!(!writing.is_finished(), "the buffers hold every call");
        assert_eq!((idle.generation(), idle.is_connected()), (1, true));
        server.resume().await;
        let mut busy = in_time("the rest", writing).await.unwrap();
        net.print(format_args!("stopped for {:.2} T without a break", limits_since(stopped)));
        assert_eq!(busy.generation(), 1);
        busy.shutdown().await.unwrap();
        assert_eq!(server.began(2).await, head(1));
        let ended = server.ended(2).await;
        assert_eq!((ended.received, ended.how.as_str()), (((CALLS - 1) * CALL) as u64, "closed"));
    });
}

#[test]
fn stopped_server_is_found_by_idle_timeout_and_once_its_window_is_closed_by_user_timeout() {
    in_a_lab(async |net: &Net| {
        let server = Server::start(net, Mode::Silent).await;
        let mut reading = net.client().idle_timeout(T).connect().await.unwrap();
        let mut unread = net.client().user_timeout(T).connect().await.unwrap();
        let mut small = net.client().user_timeout(T).connect().await.unwrap();
        server.stop().await;
        let stopped = Instant::now();
        small.write_all(b"the kernel takes this").await.unwrap();
        let (full, reader) = tokio::join!(fill(&mut unread), BreakReport::reading(&mut reading));
        reader.assert_timeout();
        let after = (reader.at - stopped).as_secs_f64() / T.as_secs_f64();
        net.print(format_args!("idle_timeout: reported after {after:.2} T"));
        assert!(0.9 < after && after < LATE, "{after}");
        let writer = in_time("user_timeout", call_until_break(&mut unread, &mut 0)).await;
        writer.assert_timeout();
        let after = (writer.at - full).as_secs_f64() / T.as_secs_f64();
        net.print(format_args!("user_timeout: reported {after:.2} T after the buffers were full"));
        assert!(0.5 < after && after < LATE, "{after}");
        // Bytes that the server's kernel acknowledges break no link.
        assert_eq!((small.generation(), small.is_connected()), (1, true));
    });
}

/// On Linux, a closed window opens again only after a good part of the buffer has been read. With the initial buffers
/// of a link, a program that reads less than about 100 kB in each limit looks like one that does not read.
#[test]
fn user_timeout_breaks_a_link_whose_server_reads_too_slowly_to_open_its_window() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Crawling).await;
        let mut conn = net.client().user_timeout(T).connect().await.unwrap();
        let full = fill(&mut conn).await;
        let report = in_time("user_timeout", call_until_break(&mut conn, &mut 0)).await;
        report.assert_timeout();
        let after = (report.at - full).as_secs_f64() / T.as_secs_f64();
        net.print(format_args!("reported {after:.2} T after the buffers were full"));
        assert!(0.5 < after && after < LATE, "{after}");
    });
}

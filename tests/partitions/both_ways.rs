//! Packets are dropped in both directions, without a reset or an ICMP error.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::calls::{BreakReport, echo};
use crate::in_a_lab::in_a_lab;
use crate::net::{LATE, Net, T, limits_since};
use crate::server::Mode;
use crate::server_process::Server;
use crate::support::{in_time, wait_for_break};

#[test]
fn keepalive_breaks_an_idle_link_and_the_next_one_works_after_the_partition() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        let mut conn = net.client().keepalive(T).connect().await.unwrap();
        echo(&mut conn).await;
        let mut limited = net.client().keepalive(T).user_timeout(T).connect().await.unwrap();
        echo(&mut limited).await;
        net.partition();
        let cut = Instant::now();
        wait_for_break(&limited).await;
        let noticed = limits_since(cut);
        BreakReport::reading(&mut limited).await.assert_timeout();
        net.print(format_args!("noticed after {noticed:.2} T with user_timeout, which replaces the number of probes"));
        assert!(0.5 < noticed && noticed < LATE, "{noticed}");
        assert!(conn.is_connected(), "the link without user_timeout broke as early");
        wait_for_break(&conn).await;
        let noticed = limits_since(cut);
        BreakReport::reading(&mut conn).await.assert_timeout();
        net.print(format_args!("noticed after {noticed:.2} T (documented: 4 T)"));
        assert!(0.5 < noticed && noticed < LATE, "{noticed}");
        net.heal();
        let healed = Instant::now();
        echo(&mut conn).await;
        assert_eq!(conn.generation(), 2);
        net.print(format_args!("works again {:.2} s after the partition", healed.elapsed().as_secs_f64()));
    });
}

#[test]
fn user_timeout_reports_how_many_bytes_in_flight_were_not_acknowledged() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        let mut conn = net.client().user_timeout(T).connect().await.unwrap();
        echo(&mut conn).await;
        net.partition();
        let written = Instant::now();
        for part in [1, 999, 4_000] {
            conn.write_all(&vec![b'.'; part]).await.unwrap();
        }
        let report = BreakReport::reading(&mut conn).await;
        let after = limits_since(written);
        report.assert_timeout();
        assert_eq!(report.unacknowledged, Some(5_000));
        net.print(format_args!("reported after {after:.2} T (documented: within 2 T)"));
        assert!(0.9 < after && after < LATE, "{after}");
    });
}

#[test]
fn idle_timeout_ends_a_waiting_read_even_while_this_side_writes() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        let mut quiet = net.client().idle_timeout(T).connect().await.unwrap();
        echo(&mut quiet).await;
        let mut busy = net.client().idle_timeout(T).connect().await.unwrap();
        echo(&mut busy).await;
        let (mut reader, mut writer) = busy.into_split();
        net.partition();
        let cut = Instant::now();
        let heartbeats = async {
            loop {
                match in_time("a heartbeat", writer.write_all(b"still here?")).await {
                    Ok(()) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => return BreakReport::by(error),
                }
            }
        };
        let (quiet, reader, writer) =
            tokio::join!(BreakReport::reading(&mut quiet), BreakReport::reading(&mut reader), heartbeats);
        for (handle, report) in [("a whole", quiet), ("a reader beside heartbeats", reader), ("their writer", writer)] {
            report.assert_timeout();
            let after = (report.at - cut).as_secs_f64() / T.as_secs_f64();
            net.print(format_args!("{handle}: reported after {after:.2} T"));
            assert!(0.9 < after && after < LATE, "{handle}: {after}");
        }
    });
}

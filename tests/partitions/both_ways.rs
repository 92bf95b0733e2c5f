//! Packets vanish in both directions, and no word of it comes from anyone.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::calls::{Told, echo};
use crate::in_a_lab::in_a_lab;
use crate::net::{LATE, Net, T, limits_since};
use crate::remote::Server;
use crate::server::Mode;
use crate::support::{break_noticed, soon};

#[test]
fn idle_link_is_broken_by_keepalive_and_the_next_one_works_after_the_partition() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        let mut conn = net.client().keepalive(T).connect().await.unwrap();
        echo(&mut conn).await;
        let mut limited = net.client().keepalive(T).user_timeout(T).connect().await.unwrap();
        echo(&mut limited).await;
        net.partition();
        let cut = Instant::now();
        break_noticed(&limited).await;
        let noticed = limits_since(cut);
        Told::reading(&mut limited).await.is_timeout();
        net.say(format_args!("noticed after {noticed:.2} T with user_timeout in the place of the number of probes"));
        assert!(0.5 < noticed && noticed < LATE, "{noticed}");
        assert!(conn.is_connected(), "it does not take the place of anything");
        break_noticed(&conn).await;
        let noticed = limits_since(cut);
        Told::reading(&mut conn).await.is_timeout();
        net.say(format_args!("noticed after {noticed:.2} T (documented: 4 T)"));
        assert!(0.5 < noticed && noticed < LATE, "{noticed}");
        net.heal();
        let healed = Instant::now();
        echo(&mut conn).await;
        assert_eq!(conn.generation(), 2);
        net.say(format_args!("works again {:.2} s after the partition", healed.elapsed().as_secs_f64()));
    });
}

#[test]
fn write_in_flight_is_told_by_user_timeout_and_how_many_bytes_were_not_acknowledged() {
    in_a_lab(async |net: &Net| {
        let _server = Server::start(net, Mode::Echo).await;
        let mut conn = net.client().user_timeout(T).connect().await.unwrap();
        echo(&mut conn).await;
        net.partition();
        let written = Instant::now();
        for part in [1, 999, 4_000] {
            conn.write_all(&vec![b'.'; part]).await.unwrap();
        }
        let told = Told::reading(&mut conn).await;
        let after = limits_since(written);
        told.is_timeout();
        assert_eq!(told.unacknowledged, Some(5_000));
        net.say(format_args!("told after {after:.2} T (documented: within 2 T)"));
        assert!(0.9 < after && after < LATE, "{after}");
    });
}

#[test]
fn waiting_reader_is_told_by_idle_timeout_even_while_this_side_writes() {
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
                match soon("a heartbeat", writer.write_all(b"still here?")).await {
                    Ok(()) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => return Told::by(error),
                }
            }
        };
        let (quiet, reader, writer) = tokio::join!(Told::reading(&mut quiet), Told::reading(&mut reader), heartbeats);
        for (who, told) in [("a whole", quiet), ("a reader beside heartbeats", reader), ("their writer", writer)] {
            told.is_timeout();
            let after = (told.at - cut).as_secs_f64() / T.as_secs_f64();
            net.say(format_args!("{who} is told after {after:.2} T"));
            assert!(0.9 < after && after < LATE, "{who}: {after}");
        }
    });
}

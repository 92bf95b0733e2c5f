//! What was written is what was acknowledged and what was not, and the server has at least the former.

use perconn::{Conn, Error, Event};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::calls::{CALL, Told, call_until_told, fill};
use crate::in_a_lab::in_a_lab;
use crate::net::{Net, T};
use crate::remote::Server;
use crate::server::Mode;
use crate::support::{Recorder, event, soon};

/// What the client knows of a broken link.
#[derive(Debug)]
struct Account {
    written: u64,
    unacknowledged: u64,
}

impl Account {
    fn acknowledged(&self) -> u64 {
        self.written - self.unacknowledged
    }
}

async fn connect(net: &Net) -> (Conn, mpsc::UnboundedReceiver<Event>) {
    let (recorder, events) = Recorder::new();
    (net.client().user_timeout(T).on_event(recorder.hook()).connect().await.unwrap(), events)
}

/// Streams calls until the break, and asks the event and the error what they know.
async fn stream(mut conn: Conn, mut events: mpsc::UnboundedReceiver<Event>) -> Account {
    let told: Told = call_until_told(&mut conn, &mut 0).await;
    told.is_timeout();
    let account = event(&mut events, |event| match event {
        Event::Disconnected { generation: 1, bytes_written, cause, .. } => match **cause {
            Error::IoError { unacknowledged, .. } => {
                Some(Account { written: *bytes_written, unacknowledged: unacknowledged.unwrap() })
            }
            ref other => panic!("{other:?}"),
        },
        _ => None,
    })
    .await;
    assert_eq!(told.unacknowledged, Some(account.unacknowledged));
    account
}

#[test]
fn server_that_stopped_finds_what_its_kernel_had_acknowledged() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let (conn, events) = connect(net).await;
        server.stop().await;
        let account = stream(conn, events).await;
        server.resume().await;
        let ended = server.ended(1).await;
        net.say(format_args!("{account:?}, {ended:?}"));
        assert_eq!(ended.received, account.acknowledged());
        assert!(account.unacknowledged > 0);
    });
}

#[test]
fn server_that_does_not_read_and_is_cut_off_finds_what_its_kernel_had_acknowledged() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Hoard).await;
        let (mut conn, events) = connect(net).await;
        // All that it has room for arrives, and is acknowledged.
        fill(&mut conn).await;
        net.partition();
        let account = stream(conn, events).await;
        net.heal();
        server.open().await;
        server.poke().await;
        let ended = server.ended(1).await;
        net.say(format_args!("{account:?}, {ended:?}"));
        assert_eq!(ended.received, account.acknowledged());
        assert!(account.unacknowledged > 0);
    });
}

#[test]
fn server_that_was_not_reached_any_more_has_what_it_acknowledged() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let (conn, events) = connect(net).await;
        let streaming = tokio::spawn(stream(conn, events));
        server.began(1).await;
        net.drop_to_server();
        let account = streaming.await.unwrap();
        net.heal_to_server();
        server.poke().await;
        let ended = server.ended(1).await;
        net.say(format_args!("{account:?}, {ended:?}"));
        assert_eq!(ended.received, account.acknowledged());
        assert!(account.unacknowledged > 0 && account.written > CALL as u64);
    });
}

#[test]
fn server_whose_acknowledgements_were_lost_has_more_than_the_client_knows() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let (conn, events) = connect(net).await;
        let streaming = tokio::spawn(stream(conn, events));
        server.began(1).await;
        net.drop_to_client();
        let account = streaming.await.unwrap();
        net.heal_to_client();
        server.poke().await;
        let ended = server.ended(1).await;
        net.say(format_args!("{account:?}, {ended:?}"));
        assert!(account.acknowledged() < ended.received && ended.received <= account.written);
    });
}

/// `idle_timeout` is this program's decision, and the kernel would go on sending what it holds. But the peer counts as
/// dead: when it is back, the old link's bytes must not come after the new link's.
#[test]
fn bytes_that_were_not_acknowledged_at_an_idle_timeout_do_not_arrive_after_it() {
    in_a_lab(async |net: &Net| {
        let mut server = Server::start(net, Mode::Silent).await;
        let mut conn = net.client().idle_timeout(T).connect().await.unwrap();
        conn.write_all(b"link one").await.unwrap();
        server.began(1).await;
        net.drop_to_server();
        conn.write_all(&[b'.'; 100]).await.unwrap();
        let told = Told::reading(&mut conn).await;
        told.is_timeout();
        assert_eq!(told.unacknowledged, Some(100));
        net.heal_to_server();
        soon("a write", conn.write_all(b"link two")).await.unwrap();
        server.began(2).await;
        // The old link's end was lost with the reset that told of it; a word of the server's brings another.
        server.poke().await;
        let ended = server.ended(1).await;
        net.say(format_args!("the old link: {ended:?}"));
        assert_eq!(ended.received, 8);
    });
}

//! Streams of Redis.

use std::process::Command;
use std::time::Duration;

use perconn::Conn;
use perconn::codec::tokio_util::bytes::Bytes;
use perconn::outbox::Fate;
use perconn::outbox::protocols::RedisStream;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use crate::numbered::{Arrived, Plan, ship, tag, tags_in};
use crate::real_server::{RealServer, program};
use crate::support::{in_time, quick};

/// A server that has written an entry to the disk before it answers.
fn server(test: &str, more: &'static [&'static str]) -> Option<RealServer> {
    let program = program(&format!("delivery: {test}"), "redis-server", &[])?;
    Some(RealServer::start("redis", |folder, port| {
        let folder = folder.to_owned();
        move || {
            let mut command = Command::new(&program);
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
            command.args(["--appendonly", "yes", "--appendfsync", "always"]).args(more);
            command.arg("--dir").arg(&folder);
            command
        }
    }))
}

fn message(number: u64) -> Bytes {
    tag(number).into()
}

async fn client(server: &RealServer, login: &str) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{login}{}/", server.address)).unwrap();
    // A page may take longer than the limit that it has.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    in_time("redis", client.get_multiplexed_async_connection_with_config(&config)).await.unwrap()
}

/// How many entries one command reads.
const PAGE: usize = 10_000;

/// The entries of the stream, each with its id.
async fn entries(client: &mut MultiplexedConnection) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    loop {
        let from = all.last().map_or_else(|| "-".to_owned(), |(id, _)| format!("({id}"));
        let mut range = redis::cmd("XRANGE");
        range.arg("logs").arg(from).arg("+").arg("COUNT").arg(PAGE);
        let mut page: Vec<(String, Vec<String>)> = range.query_async(client).await.unwrap();
        let is_last = page.len() < PAGE;
        all.append(&mut page);
        if is_last {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_loses_nothing_through_kills_of_redis() {
    let Some(server) = server("redis", &[]) else { return };
    let plan = Plan::from_env(20_000, 5);
    let stream = RedisStream::new("logs").number_field("n");
    let outbox = stream.outbox(quick(Conn::builder(server.address))).window(1024).start().unwrap();
    let tally = ship(outbox, &server, plan, message).await;
    let entries = entries(&mut client(&server, "").await).await;
    let numbers = entries.iter().map(|(_, fields)| {
        let [message, text, n, number] = &fields[..] else { panic!("{fields:?}") };
        let number: u64 = number.parse().unwrap();
        assert_eq!((message.as_str(), n.as_str()), ("message", "n"));
        assert!(tags_in(text.as_bytes()).eq([number]), "{text}");
        number
    });
    Arrived::count(plan.messages, numbers).assert_at_least_once(&tally, plan, 1024);
}

#[tokio::test]
async fn a_state_of_the_server_holds_messages_back_and_an_error_of_one_rejects_it() {
    let Some(server) = server("redis, states", &["--requirepass", "secret"]) else { return };
    let mut client = client(&server, ":secret@").await;
    let stream = RedisStream::new("logs").field("m").password("secret").database(0).max_len(1_000_000);
    let (log, mut errors) = tokio::sync::mpsc::unbounded_channel();
    let conn =
        quick(Conn::builder(server.address)).logger(move |error| drop(log.send(error.with_causes().to_string())));
    let outbox = stream.outbox(conn).start().unwrap();
    assert_eq!(in_time("the first", outbox.send_and_wait("1")).await.unwrap(), Fate::Answered);

    // No memory: a state, which the next links meet, too.
    let mut set = redis::cmd("CONFIG");
    let _: () = set.arg("SET").arg("maxmemory").arg("1").query_async(&mut client).await.unwrap();
    outbox.send("2").await.unwrap();
    for _ in 0..2 {
        let error = in_time("an error", errors.recv()).await.unwrap();
        assert!(error.contains("OOM command not allowed"), "{error}");
    }
    assert_eq!(outbox.tally().waiting, 1);
    let mut unset = redis::cmd("CONFIG");
    let _: () = unset.arg("SET").arg("maxmemory").arg("0").query_async(&mut client).await.unwrap();
    in_time("the second", outbox.flush()).await;
    assert_eq!(outbox.tally().to_string(), "2 accepted: 2 answered");

    // A replica of nobody: read only, and then not any more.
    let mut replica = redis::cmd("REPLICAOF");
    let _: () = replica.arg("127.0.0.1").arg("1").query_async(&mut client).await.unwrap();
    outbox.send("3").await.unwrap();
    loop {
        let error = in_time("an error", errors.recv()).await.unwrap();
        if error.contains("READONLY") {
            break;
        }
        assert!(error.contains("OOM"), "{error}");
    }
    let mut master = redis::cmd("REPLICAOF");
    let _: () = master.arg("NO").arg("ONE").query_async(&mut client).await.unwrap();
    in_time("the third", outbox.flush()).await;

    // The largest id there is: every later entry is an error of its command.
    let top = format!("{}-{}", u64::MAX, u64::MAX);
    let mut add = redis::cmd("XADD");
    let _: String = add.arg("logs").arg(top).arg("m").arg("top").query_async(&mut client).await.unwrap();
    let fate = in_time("the fourth", outbox.send_and_wait("4")).await.unwrap();
    assert!(matches!(&fate, Fate::Rejected(reason) if reason.starts_with("ERR ")), "{fate}");
    let tally = outbox.close(Duration::from_secs(5)).await;
    assert_eq!(tally.to_string(), "4 accepted: 3 answered, 1 rejected");
    let values: Vec<_> = entries(&mut client).await.into_iter().map(|(_, fields)| fields[1].clone()).collect();
    assert_eq!(values, ["1", "2", "3", "top"]);
}

#[tokio::test]
async fn a_wrong_password_fails_the_dial_with_the_servers_text() {
    let Some(server) = server("redis, password", &["--requirepass", "secret"]) else { return };
    let (log, mut errors) = tokio::sync::mpsc::unbounded_channel();
    let log = move |error: &perconn::Error| drop(log.send(error.with_causes().to_string()));
    for (stream, expected) in
        [(RedisStream::new("logs").password("wrong"), "AUTH: WRONGPASS"), (RedisStream::new("logs"), "PING: NOAUTH")]
    {
        let outbox = stream.outbox(quick(Conn::builder(server.address)).logger(log.clone())).start().unwrap();
        outbox.send("1").await.unwrap();
        let error = in_time("the error", errors.recv()).await.unwrap();
        assert!(error.contains(expected), "{error}");
        assert_eq!(outbox.close(Duration::ZERO).await.to_string(), "1 accepted: 1 unsent");
        while errors.try_recv().is_ok() {}
    }
}

//! The `redis` crate's [`ConnectionManager`], which reconnects by itself, against Redis.

use std::iter::repeat;
use std::process::Command;
use std::time::Duration;

use perconn::testing::{Cut, FaultProxy, Link, LinkEnd};
use redis::RedisError;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::real_server::{RealServer, program};
use crate::support::{HANG_LIMIT, in_time};
use crate::{ledger_after_ends, through_random_weather};

/// Redis, if it is installed, and a proxy in front of it.
async fn redis_and_proxy(test: &str) -> Option<(RealServer, FaultProxy)> {
    let program = program(&format!("faulty_network: {test}"), "redis-server", &[])?;
    let server = RealServer::start("redis", |folder, port| {
        let folder = folder.to_owned();
        move || {
            let mut command = Command::new(&program);
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.arg("--port").arg(port.to_string()).arg("--dir").arg(&folder);
            command
        }
    });
    let proxy = FaultProxy::start(server.address).await.unwrap();
    Some((server, proxy))
}

/// A client, which dials at the first request. It does not hide failed dials by trying again.
fn client(proxy: &FaultProxy, answer_within: Duration) -> ConnectionManager {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(HANG_LIMIT))
        .set_response_timeout(Some(answer_within));
    let client = redis::Client::open(format!("redis://{}", proxy.addr())).unwrap();
    ConnectionManager::new_lazy_with_config(client, config).unwrap()
}

/// One request. A wrong answer is a panic.
async fn ask(client: &mut ConnectionManager, question: &str) -> Result<(), RedisError> {
    let answer: String = in_time(question, redis::cmd("ECHO").arg(question).query_async(client)).await?;
    assert_eq!(answer, question);
    Ok(())
}

/// Asks until there is an answer. Returns how many errors there were before it.
async fn errors_before_answer(client: &mut ConnectionManager, question: &str) -> usize {
    for errors in 0..100 {
        match ask(client, question).await {
            Ok(()) => return errors,
            Err(error) => println!("{question}: {error:?}"),
        }
    }
    panic!("no answer");
}

#[tokio::test]
async fn redis_reset_in_the_middle_of_an_answer() {
    let Some((_server, proxy)) = redis_and_proxy("a reset").await else { return };
    proxy.script([Link::pass().cut_at_from_server("first half", Cut::Reset)]);
    let mut client = client(&proxy, HANG_LIMIT);

    ask(&mut client, "whole").await.unwrap();
    let error = ask(&mut client, "first half, second half").await.unwrap_err();
    assert!(error.is_connection_dropped(), "{error:?}");
    ask(&mut client, "first half, second half").await.unwrap();
    let ledger = ledger_after_ends(&proxy, 1).await;
    assert_eq!(ledger.len(), 2);
    assert!(matches!(ledger[0].end, Some(LinkEnd::Cut(Cut::Reset))), "{}", ledger[0]);
    assert!(ledger[1].end.is_none(), "{}", ledger[1]);
}

#[tokio::test]
async fn redis_behind_a_load_balancer_without_a_backend() {
    let Some((_server, proxy)) = redis_and_proxy("a load balancer").await else { return };
    let mut client = client(&proxy, HANG_LIMIT);
    proxy.script([Link::accept_and_close(), Link::accept_and_close(), Link::accept_and_reset()]);

    let errors = errors_before_answer(&mut client, "is anybody there?").await;
    assert!(errors >= 3, "{errors} errors");
    let ledger = ledger_after_ends(&proxy, 3).await;
    assert!(ledger.len() >= 4, "{ledger:#?}");
    for link in &ledger[..3] {
        assert!(matches!(link.end, Some(LinkEnd::Cut(_))) && link.to_server == 0, "{link}");
    }
}

#[tokio::test]
async fn redis_refuses_dials() {
    let Some((_server, proxy)) = redis_and_proxy("refused dials").await else { return };
    let mut client = client(&proxy, HANG_LIMIT);
    ask(&mut client, "fair weather").await.unwrap();
    proxy.refuse();
    ask(&mut client, "a live link goes on").await.unwrap();
    proxy.cut(Cut::Close);

    let error = ask(&mut client, "cut").await.unwrap_err();
    assert!(error.is_connection_dropped(), "{error:?}");
    for _ in 0..3 {
        let error = ask(&mut client, "refused").await.unwrap_err();
        assert!(error.is_connection_refusal(), "{error:?}");
    }
    proxy.heal();
    errors_before_answer(&mut client, "open again").await;
    assert_eq!(proxy.ledger().len(), 2, "refused dials are no links");
}

#[tokio::test]
async fn redis_stalls_until_the_client_s_timeout() {
    let Some((_server, proxy)) = redis_and_proxy("a stall").await else { return };
    proxy.script(repeat(Link::pass().cut_at_from_server("first half", Cut::Stall)));
    let mut client = client(&proxy, Duration::from_millis(300));
    errors_before_answer(&mut client, "fair weather").await;
    // The manager keeps a link on which answers time out.
    for question in ["first half, second half", "behind it"] {
        let error = ask(&mut client, question).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
    }
    assert!(proxy.ledger().last().unwrap().end.is_none(), "a stalled link has not ended");
    proxy.cut(Cut::Reset);
    errors_before_answer(&mut client, "after the cut").await;

    // A stall that loses nothing: the late answer is not taken for that of a later request.
    proxy.stall();
    assert!(ask(&mut client, "late").await.unwrap_err().is_timeout());
    proxy.heal();
    errors_before_answer(&mut client, "later").await;
}

#[tokio::test]
async fn redis_through_random_weather() {
    let Some((_server, proxy)) = redis_and_proxy("random weather").await else { return };
    let mut manager = client(&proxy, HANG_LIMIT);
    let failed = through_random_weather(&proxy, async |number| {
        let result = ask(&mut manager, &format!("{number} {}", "x".repeat(number % 10 * 300))).await;
        // The manager dials again after an I/O error only. A close in the middle of the answers to its login is an error of
        // the parser, which each later request gets, too (redis 1.2.2).
        if result.as_ref().is_err_and(|error| !error.is_io_error()) {
            manager = client(&proxy, HANG_LIMIT);
        }
        result.is_ok()
    })
    .await;
    assert!(failed >= 10, "{failed} failed");
}

//! `examples/pg_listen.rs`, as a program, through a restart of the server.
//!
//! `cargo test --all-features` builds it before it runs this. (With `--test postgres` it does not: build it before, by
//! `cargo build --features postgres --example pg_listen`.)

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, Command};

use crate::server::{Plain, Postgres};
use crate::support::in_time;

fn pg_listen() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join("pg_listen");
    assert!(program.exists(), "build it before: cargo build --features postgres --example pg_listen");
    program
}

fn start(args: &[&str], url_in_environment: Option<String>) -> Child {
    let mut command = Command::new(pg_listen());
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    match url_in_environment {
        Some(url) => command.env("DATABASE_URL", url),
        None => command.env_remove("DATABASE_URL"),
    };
    command.spawn().unwrap()
}

/// The next line with this in it; what comes before, is left out.
async fn line(lines: &mut Lines<impl AsyncBufRead + Unpin>, what: &str) -> String {
    let line = async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("no line with {what:?}"));
            println!("pg_listen: {line}");
            if line.contains(what) {
                return line.split_once(what).unwrap().1.to_owned();
            }
        }
    };
    in_time(what, line).await
}

#[tokio::test]
async fn pg_listen_prints_notifications_through_a_restart_and_ends_at_ctrl_c() {
    let Some(server) = Postgres::start("example") else { return };
    let writer = server.client().await;
    let mut child = start(&[&server.url(), "orders", "Payments, \"due\""], None);
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    line(&mut err, "listening on ").await;
    notify(&writer, "orders", "one").await;
    let sender: i32 = line(&mut out, " orders ").await.strip_suffix(" one").unwrap().parse().unwrap();
    assert!(sender > 0);
    notify(&writer, "Payments, \"due\"", "two\nlines").await;
    assert!(line(&mut out, " Payments, \"due\" ").await.ends_with(" two\\nlines"));

    server.shut_down_fast();
    // The server has said why.
    assert!(line(&mut err, "lost: ").await.contains("terminating connection due to administrator command"));
    server.start_again();
    line(&mut err, "back after ").await;
    let writer = server.client().await;
    notify(&writer, "Payments, \"due\"", "three").await;
    assert!(line(&mut out, " Payments, \"due\" ").await.ends_with(" three"));
    notify(&writer, "orders", "").await;
    line(&mut out, " orders ").await;

    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    assert_eq!(in_time("the end", child.wait()).await.unwrap().code(), Some(0));
    assert_eq!(out.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn pg_listen_takes_the_url_from_the_environment_and_ends_when_nobody_reads() {
    let Some(server) = Postgres::start("example unread") else { return };
    let writer = server.client().await;
    let mut child = start(&["orders"], Some(server.url()));
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    line(&mut err, "listening on ").await;
    drop(child.stdout.take());
    // Again and again: a process that another test is about to start has the pipe as well, until it has begun.
    let notifying = async {
        loop {
            notify(&writer, "orders", "nobody reads this").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::select! {
        ended = in_time("the end", child.wait()) => ended,
        () = notifying => unreachable!("it has no end"),
    };
    assert_eq!(ended.unwrap().code(), Some(0));
    assert_eq!(in_time("the rest", err.next_line()).await.unwrap(), None);
}

#[tokio::test]
async fn pg_listen_names_what_is_wrong_at_the_start() {
    let Some(server) = Postgres::start("example refused") else { return };
    drop(server.client().await);
    let wrong = server.url().replace("secret", "wrong");
    let nobody = "postgres://perconn@127.0.0.1:1/postgres";
    let long = "c".repeat(64);
    let cases: [(&str, &str, &str); 4] = [
        (&wrong, "orders", "password authentication failed"),
        (nobody, "orders", "refused"),
        (&server.url(), &long, &long),
        (&server.url(), "", "channel"),
    ];
    for (url, channel, expected) in cases {
        let child = start(&[url, channel], None);
        let output = in_time("the end", child.wait_with_output()).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{url} {channel}: {text}");
        assert!(text.starts_with("pg_listen: ") && text.contains(expected), "{url} {channel}: {text}");
        assert!(!text.contains("secret") && !text.contains("wrong@"), "{text}");
    }
}

async fn notify(writer: &Plain, channel: &str, payload: &str) {
    in_time("notify", writer.notify(channel, payload)).await.unwrap();
}

//! The two examples that log over an outbox, to a server that closes connections.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::in_time;

/// Runs an example against a server that reads some lines of its first connection and closes it, and returns all lines that came,
/// and what the example has said.
async fn logged(example: &str) -> (Vec<String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let mut all = Vec::new();
        while !all.last().is_some_and(|line: &String| line.contains("100")) {
            let (stream, _) = listener.accept().await.unwrap();
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                all.push(line);
                if all.len() == 10 {
                    break;
                }
            }
        }
        all
    });
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(example);
    assert!(path.exists(), "{path:?} is missing: first `cargo build --workspace --all-features --examples`");
    let child = Command::new(path).arg(address).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let output = in_time("the example", child.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    (in_time("the last line", server).await.unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn lines_of_log_arrive_over_a_second_link() {
    let (lines, said) = logged("log_over_outbox").await;
    assert!(lines[0].contains("INFO log_over_outbox: reading 1"), "{}", lines[0]);
    assert!(lines.last().unwrap().ends_with("reading 100"), "{lines:?}");
    assert!(said.contains("written"), "{said}");
}

#[tokio::test]
async fn events_of_tracing_arrive_over_a_second_link() {
    let (lines, said) = logged("tracing_over_outbox").await;
    assert!(lines[0].contains(r#""message":"reading","number":1"#), "{}", lines[0]);
    assert!(lines.last().unwrap().contains(r#""number":100"#), "{lines:?}");
    assert!(said.contains("100 accepted"), "{said}");
}

//! The examples of `perconn` and of this package as a new user meets them: their output, their errors, and their end, also
//! when nobody reads.
//!
//! `cargo test --workspace --all-features` builds the examples before it runs this. With `--test examples` it does not: run
//! `cargo build --workspace --all-features --examples` first.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rcgen::CertifiedKey;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

const EXAMPLES: [&str; 18] = [
    "blocking_client",
    "echo_client",
    "echo_server",
    "faultproxy",
    "fleet_poller",
    "framed_lines",
    "http_client",
    "http_server",
    "pg_listen",
    "postgres_client",
    "prometheus",
    "proxy_client",
    "redis_client",
    "resubscribe",
    "ship",
    "soak",
    "tls_client",
    "websocket_client",
];

/// Short programs to copy from. They take an address and have no options.
const PATTERNS: [(&str, &str); 5] = [
    ("heartbeat_select", "SUBSCRIBE"),
    ("request_framed", "how are you?"),
    ("request_session", "one"),
    ("request_timeout", "how are you?"),
    ("shared_writers", "is alive"),
];

/// What logs over an outbox: `tests/delivery/logging.rs`.
const LOGGING: [&str; 2] = ["log_over_outbox", "tracing_over_outbox"];

/// The examples that start their own server and end by themselves, with arguments that keep them short.
const DEMOS: [(&str, &[&str]); 6] = [
    ("blocking_client", &[]),
    ("echo_client", &[]),
    ("fleet_poller", &[]),
    ("framed_lines", &[]),
    ("resubscribe", &[]),
    ("soak", &["--time", "1s"]),
];

/// Longer than the longest demo, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Where an example is: in the folder beside this test.
fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().join("examples");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{path:?} is missing: first `cargo build --workspace --all-features --examples`");
    path
}

/// Starts an example.
fn start(name: &str, args: &[&str]) -> Child {
    let mut command = Command::new(path(name));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

/// Waits for the end. Returns the exit code, and the output of the pipes that are still open.
async fn end(child: Child, what: &str) -> (Option<i32>, String, String) {
    let output = timeout(LIMIT, child.wait_with_output()).await;
    let Output { status, stdout, stderr } = output.unwrap_or_else(|_| panic!("hangs: {what}")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Runs `NAME ARGS | head -1`, or, without a first line, with a pipe that is closed from the start.
async fn end_unread(name: &str, args: &[&str], first_line: Option<&str>) {
    let what = format!("{name} {args:?} with nobody to read it");
    let mut child = start(name, args);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    if let Some(expected) = first_line {
        let mut line = String::new();
        timeout(LIMIT, stdout.read_line(&mut line)).await.expect(&what).unwrap();
        assert!(line.contains(expected), "{what}: {line:?}");
    }
    drop(stdout);
    assert_eq!(end(child, &what).await, (Some(0), String::new(), String::new()), "{what}");
}

#[test]
fn every_example_is_tested_and_in_the_readme() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(here.join("../examples/README.md")).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut names = BTreeSet::new();
    // The links of the page start in the folder of `perconn`'s own examples.
    for (folder, link) in [("../examples", ""), ("examples", "../interop/examples/")] {
        let files = std::fs::read_dir(here.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        for name in files.map(stem).filter(|name| name != "README") {
            assert!(readme.contains(&format!("**[{name}]({link}{name}")), "{name}");
            names.insert(name);
        }
    }
    let patterns = PATTERNS.map(|(name, _)| name);
    assert_eq!(names, EXAMPLES.into_iter().chain(patterns).chain(LOGGING).map(str::to_owned).collect());
    for name in patterns {
        let source = std::fs::read_to_string(here.join(format!("../examples/{name}.rs"))).unwrap();
        assert!(source.lines().count() <= 40, "{name} is no longer short");
    }
}

#[tokio::test]
async fn patterns_get_their_answers() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    for (name, expected) in PATTERNS {
        let mut child = start(name, &[&address]);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        line_with(expected, &mut lines).await;
    }
}

#[tokio::test]
async fn page_of_metrics_shows_the_connection() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut child = start("prometheus", &[&server.local_addr().unwrap().to_string(), "127.0.0.1:0"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut stream, _) = timeout(LIMIT, server.accept()).await.unwrap().unwrap();
    timeout(LIMIT, stream.read_exact(&mut [0; 7])).await.unwrap().unwrap();
    let mut line = String::new();
    timeout(LIMIT, lines.read_line(&mut line)).await.unwrap().unwrap();
    let page = line.trim().strip_prefix("metrics on http://").unwrap().strip_suffix("/metrics").unwrap();
    let mut http = TcpStream::connect(page).await.unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nhost: page\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(LIMIT, http.read_to_string(&mut text)).await.unwrap().unwrap();
    for sample in [
        "perconn_connected{connection=\"lines\"} 1",
        "perconn_links{connection=\"lines\"} 1",
        "# TYPE perconn_dial_duration histogram",
    ] {
        assert!(text.contains(sample), "{sample}: {text}");
    }
}

#[tokio::test]
async fn usage_goes_to_standard_output() {
    for name in EXAMPLES {
        for arg in ["--help", "-h"] {
            let (code, stdout, stderr) = end(start(name, &[arg]), name).await;
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{name} {arg}");
            assert!(stdout.contains("\nUsage: ") && stdout.contains(name), "{name} {arg}: {stdout}");
        }
    }
}

#[tokio::test]
async fn wrong_argument_is_named_on_standard_error() {
    for name in EXAMPLES {
        for args in [&["--bogus"][..], &["--bogus", "a", "b", "c"]] {
            let (code, stdout, stderr) = end(start(name, args), name).await;
            assert_eq!((code, stdout.as_str()), (Some(2), ""), "{name} {args:?}");
            assert!(stderr.starts_with(&format!("{name}: ")) && stderr.contains("\"--bogus\""), "{name}: {stderr}");
        }
    }
}

#[tokio::test]
async fn usage_and_errors_may_go_unread() {
    for name in EXAMPLES {
        end_unread(name, &["--help"], None).await;
        // As in `NAME --bogus 2>&1 | true`.
        let mut child = start(name, &["--bogus"]);
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(end(child, name).await.0, Some(2), "{name}");
    }
}

#[tokio::test]
async fn demos_end_by_themselves() {
    let mut ends = JoinSet::new();
    for (name, args) in DEMOS {
        ends.spawn(async move {
            let (code, stdout, stderr) = end(start(name, args), name).await;
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{name}: {stdout}");
            assert!(stdout.lines().count() >= 5, "{name}: {stdout}");
        });
    }
    ends.join_all().await;
}

#[tokio::test]
async fn demos_end_when_nobody_reads() {
    let mut ends = JoinSet::new();
    for (name, args) in DEMOS {
        ends.spawn(end_unread(name, args, None));
        ends.spawn(end_unread(name, args, Some("")));
    }
    ends.join_all().await;
}

#[tokio::test]
async fn clients_without_a_server_end_when_nobody_reads() {
    // A bound socket that does not listen refuses dials, and keeps its port from others.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = &*socket.local_addr().unwrap().to_string().leak();
    let (certificate, _) = certificate_and_key("unread");
    let clients: [(&str, Vec<&str>); 7] = [
        ("echo_client", vec!["--connect", address]),
        ("http_client", vec![address]),
        ("postgres_client", vec![address]),
        ("proxy_client", vec![format!("socks5://{address}").leak(), address]),
        ("redis_client", vec![address]),
        ("tls_client", vec![address, certificate.leak()]),
        ("websocket_client", vec![address]),
    ];
    let mut ends = JoinSet::new();
    for (name, args) in clients {
        ends.spawn(async move {
            end_unread(name, &args, None).await;
            end_unread(name, &args, Some("dial 1 failed: ")).await;
        });
    }
    ends.join_all().await;
}

/// Reads lines until one contains `part`. Returns the rest of that line.
async fn line_with(part: &str, lines: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut seen = String::new();
    let found = timeout(LIMIT, async {
        loop {
            let from = seen.len();
            let length = lines.read_line(&mut seen).await.unwrap();
            assert!(length > 0, "no {part:?} in: {seen}");
            if let Some((_, rest)) = seen[from..].split_once(part) {
                return rest.trim_end().to_owned();
            }
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("no {part:?} within {LIMIT:?} in: {seen}"))
}

#[cfg(unix)]
#[tokio::test]
async fn echo_server_answers_the_clients_and_stops_at_ctrl_c() {
    let (certificate, key) = certificate_and_key("server");
    for (server_args, name, client_args, expected) in [
        (&["127.0.0.1:0"][..], "echo_client", &["--connect", "ADDRESS"][..], "echoed   message 2"),
        (&["--tls", &certificate, &key, "127.0.0.1:0"], "tls_client", &["ADDRESS", &certificate], "answer: request 2"),
    ] {
        let mut server = start("echo_server", server_args);
        let mut server_output = BufReader::new(server.stdout.take().unwrap());
        // The certificate is for this name.
        let address = line_with("listening on ", &mut server_output).await.replace("127.0.0.1", "localhost");
        let client_args: Vec<_> =
            client_args.iter().map(|arg| if *arg == "ADDRESS" { &address } else { *arg }).collect();
        let mut client = start(name, &client_args);
        let mut client_output = BufReader::new(client.stdout.take().unwrap());
        line_with(expected, &mut client_output).await;
        let pid = server.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
        assert_eq!(line_with("stopped; ", &mut server_output).await, "busy and finished: 0, idle: 1, cut: 0");
        assert_eq!(line_with("in all: ", &mut server_output).await, "1 served, 0 refused, 0 timed out");
        assert_eq!(end(server, "echo_server").await, (Some(0), String::new(), String::new()));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn http_server_answers_what_is_under_way_at_ctrl_c() {
    let mut server = start("http_server", &["127.0.0.1:0"]);
    let mut server_output = BufReader::new(server.stdout.take().unwrap());
    let address = line_with("listening on ", &mut server_output).await;
    let mut client = TcpStream::connect(&address).await.unwrap();
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
    line_with("accepted", &mut server_output).await;
    // Also if the request is not read yet.
    let pid = server.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let mut answer = String::new();
    timeout(LIMIT, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("GET /slow\n"), "{answer}");
    line_with("cut: 0", &mut server_output).await;
    assert_eq!(end(server, "http_server").await, (Some(0), String::new(), String::new()));
}

/// Gives an order to the proxy. Returns the lines of its answer.
async fn order(order: &str, proxy: &mut Child, output: &mut (impl AsyncBufReadExt + Unpin)) -> Vec<String> {
    proxy.stdin.as_mut().unwrap().write_all(format!("{order}\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let mut line = String::new();
        timeout(LIMIT, output.read_line(&mut line)).await.expect(order).unwrap();
        let line = line.trim_end().to_owned();
        let is_last = line == "ok" || line.starts_with("error: ");
        answer.push(line);
        if is_last {
            return answer;
        }
    }
}

#[tokio::test]
async fn faultproxy_plays_its_script_and_takes_orders() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = server.local_addr().unwrap().to_string();
    let script = "pass cut-after 3 close; accept-and-close; pass latency 1ms 1ms bandwidth 1000000";
    let mut command = Command::new(path("faultproxy"));
    command.args(["--upstream", &upstream, "--script", script]);
    let mut proxy = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut output = BufReader::new(proxy.stdout.take().unwrap());
    let address = line_with("listening on ", &mut output).await;
    let mut client = TcpStream::connect(&address).await.unwrap();
    let mut peer = server.accept().await.unwrap().0;
    client.write_all(b"abc").await.unwrap();
    let mut all = Vec::new();
    timeout(LIMIT, peer.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, b"abc");
    let mut second = TcpStream::connect(&address).await.unwrap();
    assert_eq!(timeout(LIMIT, second.read(&mut [0])).await.unwrap().unwrap(), 0);
    let mut third = TcpStream::connect(&address).await.unwrap();
    assert_eq!(order("wait-for-links 3 60s", &mut proxy, &mut output).await, ["ok"]);
    assert_eq!(order("wait-for-ends 2 60s", &mut proxy, &mut output).await, ["ok"]);
    let ledger = order("ledger", &mut proxy, &mut output).await;
    assert_eq!(ledger.len(), 4);
    assert!(ledger[0].contains(" 3 bytes to the server, 0 bytes back, cut (close) at "), "{ledger:?}");
    assert!(ledger[2].ends_with("still open"), "{ledger:?}");
    for (wrong, expected) in [
        ("cut", "error: nothing: expected close, reset, half-close or stall"),
        ("wait-for-links 4 1ms", "error: not within 1ms"),
        ("stall now", "error: unexpected \"now\""),
        ("bandwidth 0", "error: bandwidth 0: expected at least 1 byte per second; with stall, nothing passes"),
        ("latency soon", "error: expected a delay such as 50ms"),
    ] {
        assert_eq!(order(wrong, &mut proxy, &mut output).await, [expected]);
    }
    for right in ["heal", "black-hole to-client", "refuse", "script random 1 10", "heal", "cut reset"] {
        assert_eq!(order(right, &mut proxy, &mut output).await, ["ok"], "{right}");
    }
    assert_eq!(timeout(LIMIT, third.read(&mut [0])).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(order("quit", &mut proxy, &mut output).await, ["ok"]);
    assert!(timeout(LIMIT, proxy.wait()).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn echo_server_ends_when_nobody_reads() {
    let mut server = start("echo_server", &["127.0.0.1:0"]);
    let mut server_output = BufReader::new(server.stdout.take().unwrap());
    let address = line_with("listening on ", &mut server_output).await;
    drop(server_output);
    // Its line about this connection has no reader.
    let stream = TcpStream::connect(&address).await.unwrap();
    assert_eq!(end(server, "echo_server").await, (Some(0), String::new(), String::new()));
    drop(stream);
}

/// The paths of a new certificate and its key.
fn certificate_and_key(test: &str) -> (String, String) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |what: &str, pem: String| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("examples-{test}-{what}.pem"));
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (write("certificate", cert.pem()), write("key", signing_key.serialize_pem()))
}

#[tokio::test]
async fn bad_values_are_named_at_the_start() {
    let (certificate, key) = certificate_and_key("bad");
    let (certificate, key) = (certificate.as_str(), key.as_str());
    let socks = "socks5://127.0.0.1:9";
    let cases: [(&str, &[&str], &[&str]); 38] = [
        ("http_server", &["nohost"], &["\"nohost\"", "host:port"]),
        ("echo_server", &["nohost"], &["\"nohost\"", "host:port"]),
        ("echo_server", &["192.0.2.1:7777"], &["cannot listen on 192.0.2.1:7777: "]),
        ("echo_server", &["--acceptors", "0"], &["0 acceptors: expected at least 1"]),
        ("echo_server", &["--idle", "in_time"], &["--idle \"in_time\": expected a number"]),
        ("echo_server", &["--tls", certificate, "none.pem"], &["private key \"none.pem\": "]),
        ("faultproxy", &[], &["expected --upstream HOST:PORT"]),
        ("faultproxy", &["--upstream", "nohost"], &["\"nohost\"", "no port"]),
        ("faultproxy", &["--upstream", "127.0.0.1:1", "--listen", "7000"], &["\"7000\"", "127.0.0.1:7000"]),
        ("faultproxy", &["--script", "pass cut-after x reset"], &["\"x\": expected a number of bytes"]),
        ("faultproxy", &["--script", "pass; pas"], &["unknown entry \"pas\""]),
        ("blocking_client", &["--connect", "nohost"], &["\"nohost\"", "no port"]),
        ("echo_client", &["--connect", "nohost"], &["\"nohost\"", "no port"]),
        ("fleet_poller", &["--slots", "0"], &["a pool of 0 slots", "at least 1"]),
        ("fleet_poller", &["nohost"], &["\"nohost\"", "no port"]),
        ("http_client", &["http://127.0.0.1:80"], &["\"http://127.0.0.1:80\"", "a URL"]),
        ("pg_listen", &["postgres://me@host:port/shop", "orders"], &["port"]),
        ("pg_listen", &["postgres://me@127.0.0.1:1/shop", "orders"], &["127.0.0.1:1", "refused"]),
        ("pg_listen", &["postgres://me@127.0.0.1:1/shop"], &["unexpected arguments", "CHANNEL"]),
        ("postgres_client", &["127.0.0.1"], &["\"127.0.0.1\"", "no port"]),
        ("redis_client", &["127.0.0.1:0"], &["\"127.0.0.1:0\"", "port 0"]),
        ("soak", &["--connections", "0"], &["--connections \"0\"", "1 to 1000"]),
        ("websocket_client", &[""], &["\"\"", "empty"]),
        ("websocket_client", &["--serve", "9001"], &["\"9001\"", "invalid socket address"]),
        ("tls_client", &["https://localhost:8443", certificate], &["\"https://localhost:8443\"", "a URL"]),
        ("tls_client", &[":80", certificate], &["\":80\"", "no host"]),
        ("tls_client", &["b\u{fc}cher.example:443", certificate], &["\"b\u{fc}cher.example:443\"", "neither a name"]),
        ("tls_client", &["[fe80::1%1]:443", certificate], &["\"fe80::1%1\"", "a certificate can have"]),
        ("tls_client", &["localhost:8443", key], &[key, "expected a file with a certificate"]),
        ("tls_client", &["localhost:8443", "none.pem"], &["\"none.pem\"", "expected a file with a certificate"]),
        ("proxy_client", &[socks], &[socks, "Usage: "]),
        ("proxy_client", &[socks, "nohost"], &["\"nohost\"", "no port"]),
        ("proxy_client", &[socks, "host:0"], &["\"host:0\"", "port 0"]),
        ("proxy_client", &[socks, "host:99999"], &["\"host:99999\"", "65535"]),
        ("proxy_client", &["socks5://127.0.0.1", "host:9"], &["\"127.0.0.1\"", "no port"]),
        ("proxy_client", &["http://127.0.0.1", "host:9"], &["\"127.0.0.1\"", "no port"]),
        ("proxy_client", &["127.0.0.1:9", "host:9"], &["\"127.0.0.1:9\"", "socks5://"]),
        ("proxy_client", &["ftp://127.0.0.1:9", "host:9"], &["\"ftp://127.0.0.1:9\"", "socks5://"]),
    ];
    for (name, args, expected) in cases {
        let (code, stdout, stderr) = end(start(name, args), &format!("{name} {args:?}")).await;
        assert!(matches!(code, Some(1 | 2)), "{name} {args:?}: {code:?}");
        assert_eq!(stdout, "", "{name} {args:?}");
        assert!(stderr.starts_with(&format!("{name}: ")), "{name} {args:?}: {stderr}");
        for part in expected {
            assert!(stderr.contains(part), "{name} {args:?}: {part:?} is missing in {stderr:?}");
        }
    }
}

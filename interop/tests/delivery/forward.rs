//! The forward protocol, to a server of our own and to that of npm's `@fluent-org/logger`.
//!
//! The proof that nothing is lost runs against our own server, which writes an event to its file before it acknowledges
//! it. That of npm acknowledges an event before it hands it on, so it loses some at a kill, and shows only that the two
//! understand each other.
//!
//! Next: [`server`], our own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use perconn::Conn;
use perconn::codec::tokio_util::bytes::Bytes;
use perconn::outbox::Fate;
use perconn::outbox::protocols::Forward;

use crate::numbered::{Arrived, Plan, ship, tag, tags_in};
use crate::real_server::{RealServer, program};
use crate::support::{in_time, quick};

mod server;

fn message(number: u64) -> Bytes {
    Forward::event(SystemTime::now(), [("level", "info"), ("message", &tag(number))])
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_loses_nothing_through_kills_of_a_server_of_our_own() {
    let server = server::start();
    let plan = Plan::from_env(20_000, 5);
    let outbox = Forward::new("app").outbox(quick(Conn::builder(server.address))).window(1024).start().unwrap();
    let tally = ship(outbox, &server, plan, message).await;
    let text = std::fs::read(server.folder.join("arrived")).unwrap();
    Arrived::count(plan.messages, tags_in(&text)).assert_at_least_once(&tally, plan, 1024);
}

#[tokio::test]
async fn the_server_of_fluent_org_logger_understands_and_is_understood() {
    let Some(server) = npm_server() else { return };
    let outbox = Forward::new("app.access").outbox(quick(Conn::builder(server.address))).start().unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 5);
    let event = Forward::event(time, [("level", "info"), ("message", "ä line")]);
    assert_eq!(in_time("an event", outbox.send_and_wait(event)).await.unwrap(), Fate::Answered);
    let event = Forward::event_of(time, b"\x82\xa1n\xcd\x04\xd2\xa1l\x92\xc3\xc0"); // {"n": 1234, "l": [true, null]}
    assert_eq!(in_time("an event", outbox.send_and_wait(event)).await.unwrap(), Fate::Answered);
    assert_eq!(
        in_time("text", outbox.send_and_wait("a line")).await.unwrap().to_string().split(':').next(),
        Some("rejected")
    );
    assert_eq!(outbox.close(Duration::from_secs(5)).await.to_string(), "3 accepted: 2 answered, 1 rejected");
    let expected = concat!(
        "app.access 1800000000.5 {\"level\":\"info\",\"message\":\"ä line\"}\n",
        "app.access 1800000000.5 {\"n\":1234,\"l\":[true,null]}\n",
    );
    // It prints what it has acknowledged a moment later.
    in_time("its output", async {
        while server.log() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

const SCRIPT: &str = "
const {FluentServer} = require('@fluent-org/logger');
const server = new FluentServer({listenOptions: {host: '127.0.0.1', port: Number(process.argv[2])}});
server.on('entry', (tag, time, record) =>
  console.log(tag, `${time.epoch}.${time.nano}`, JSON.stringify(record)));
server.listen();
";

/// The server of `@fluent-org/logger`, which npm installs beside the build. Prints a line and returns `None` if it
/// cannot.
fn npm_server() -> Option<RealServer> {
    let test = "delivery: forward to @fluent-org/logger";
    let (node, npm) = (program(test, "node", &[])?, program(test, "npm", &[])?);
    let packages = packages(&npm)?;
    Some(RealServer::start("fluent", |folder, port| {
        let script = folder.join("server.js");
        std::fs::write(&script, SCRIPT).unwrap();
        move || {
            let mut command = Command::new(&node);
            command.arg(&script).arg(port.to_string()).env("NODE_PATH", &packages);
            command
        }
    }))
}

/// The folder with the package.
fn packages(npm: &Path) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fluent-logger");
    let packages = folder.join("node_modules");
    if packages.join("@fluent-org/logger/package.json").exists() {
        return Some(packages);
    }
    std::fs::create_dir_all(&folder).unwrap();
    let mut install = Command::new(npm);
    install
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(&folder)
        .arg("@fluent-org/logger@1");
    let installed = install.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if installed.is_ok_and(|status| status.success()) {
        return Some(packages);
    }
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: delivery: forward: npm could not get @fluent-org/logger");
    None
}

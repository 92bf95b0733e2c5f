//! A server with sockets of a service manager, in a sandbox that forbids what a server does not need.
//!
//! The filters of systemd (`SystemCallFilter=@system-service`), Docker and Firefox know neither pidfd_open(2) nor pidfd_getfd(2),
//! or forbid them.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use perconn::acceptor::{Acceptor, Listen};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The numbers of pidfd_open(2) and pidfd_getfd(2), the same on all architectures.
const FORBIDDEN: [i64; 2] = [434, 438];

/// What the filter does, by the name that the child process gets.
const ACTIONS: [(&str, SeccompAction); 2] = [("error", SeccompAction::Errno(1)), ("kill", SeccompAction::KillProcess)];

#[test]
fn sockets_of_a_service_manager_are_served_in_a_sandbox() {
    for (action, _) in ACTIONS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Standard input carries the socket.
        let script =
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --exact sandboxed --ignored --nocapture";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("PERCONN_TEST_ACTION", action)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().map(Result::unwrap);
        let outcome = match line.as_deref() {
            Some("serving") => {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.write_all(b"hello\n").unwrap();
                let mut echo = [0; 6];
                stream.read_exact(&mut echo).map(|()| assert_eq!(&echo, b"hello\n"))
            }
            Some(line) if line.starts_with("skipped: ") => {
                println!("{line}");
                Ok(())
            }
            _ => Err(std::io::Error::other(format!("{line:?}"))),
        };
        let _ = child.kill();
        let status = child.wait().unwrap();
        outcome.unwrap_or_else(|error| panic!("{action}: {error}; the server: {status}"));
    }
}

#[test]
#[ignore = "the process that the test above starts with a socket"]
fn sandboxed() {
    let Ok(action) = std::env::var("PERCONN_TEST_ACTION") else { return };
    let action = ACTIONS.into_iter().find(|(name, _)| *name == action).unwrap().1;
    let rules = BTreeMap::from(FORBIDDEN.map(|number| (number, Vec::new())));
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action.clone(), architecture).unwrap();
    if let Err(error) = apply_filter(&BpfProgram::try_from(filter).unwrap()) {
        eprintln!("skipped: the sandbox: {error}");
        return;
    }
    if action == SeccompAction::Errno(1) {
        let forbidden = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        assert_eq!(forbidden.unwrap_err(), rustix::io::Errno::PERM);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let builder = Acceptor::builder(Listen::from_environment().unwrap());
        let _acceptor = builder.line_handler(async |line, conn| conn.send(line).await).build().unwrap();
        eprintln!("serving");
        std::future::pending::<()>().await;
    });
}

//! Invalid settings and addresses.

use std::io;
use std::time::Duration;

use perconn::acceptor::{Acceptor, AcceptorBuilder, Error, Overflow};

use crate::common::{echo, local, served};

/// The text of the `InvalidConfig` that `build` returns.
#[track_caller]
fn invalid(builder: AcceptorBuilder) -> String {
    match builder.build() {
        Err(error @ Error::InvalidConfig(_)) => {
            let text = error.to_string();
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
            text
        }
        Err(other) => panic!("expected InvalidConfig: {other:?}"),
        Ok(_) => panic!("expected InvalidConfig, but it was built"),
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_rejected_by_name() {
    let grow = |by, max| Overflow::Grow { by, max };
    let zero = Duration::ZERO;
    for (builder, expected) in [
        (local().acceptors(0), "0 acceptors: expected at least 1"),
        (local().overflow(grow(0, 9999)), "grow by 0 acceptors: expected at least 1"),
        (local().acceptors(10).overflow(grow(1, 9)), "grow to at most 9 acceptors: expected at least 10"),
        (local().idle_timeout(zero), "idle_timeout 0ns: expected more than zero"),
        (local().first_byte_timeout(zero), "first_byte_timeout 0ns: expected more than zero"),
        (local().min_rate(0), "min_rate 0: expected at least 1 byte a second"),
        (local().max_line_length(0), "max_line_length 0: expected at least 1 byte"),
        (local().concurrent_lines(0), "concurrent_lines 0: expected at least 1 line"),
        (local().backlog(0), "backlog 0: expected at least 1"),
        (local().max_handshakes(0), "max_handshakes 0: expected at least 1"),
        (local().handshake_timeout(zero), "handshake_timeout 0ns: expected more than zero"),
    ] {
        let text = invalid(builder.handler(echo));
        assert!(text.contains(expected), "{text}");
    }
    #[cfg(feature = "proxy-protocol")]
    {
        let text = invalid(local().proxy_protocol(["10.0.0.0/8", "lb.example"]).handler(echo));
        assert!(text.contains("proxy_protocol \"lb.example\": expected an IP address, a network"), "{text}");
    }
    let text = invalid(local());
    assert!(text.contains("no handler: expected one"), "{text}");
}

#[tokio::test]
async fn invalid_address_is_rejected_by_name() {
    for address in ["", "nohost", "host:", "127.0.0.1:99999", "127.0.0.1:http"] {
        let text = invalid(Acceptor::builder(address).handler(echo));
        assert!(text.contains(&format!("{address:?}")) && text.contains("\"host:port\""), "{text}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn empty_path_is_rejected() {
    // The kernel would choose an address that no client knows.
    let text = invalid(Acceptor::builder(perconn::acceptor::Listen::unix("")).handler(echo));
    assert!(text.contains("empty path: expected the path of a socket"), "{text}");
}

#[tokio::test]
async fn port_in_use_and_foreign_address_are_io_errors_of_their_kind() {
    let first = local().handler(echo).build().unwrap();
    for (address, kind) in [
        (first.local_addr().unwrap().to_string(), io::ErrorKind::AddrInUse),
        ("192.0.2.1:7777".to_owned(), io::ErrorKind::AddrNotAvailable),
    ] {
        let error = Acceptor::builder(address.as_str()).handler(echo).build().unwrap_err();
        assert!(matches!(&error, Error::Listen { address: reported, .. } if *reported == address), "{error:?}");
        assert_eq!(error.kind(), kind);
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
        assert!(std::error::Error::source(&error).is_some());
    }
    served(&first).await;
}

#[test]
fn build_outside_of_a_fit_runtime_is_an_error_and_no_panic() {
    let text = invalid(local().handler(echo));
    assert!(text.contains("no runtime"), "{text}");
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = bare.block_on(async { invalid(local().handler(echo)) });
    assert!(text.contains("with I/O and time"), "{text}");
}

#[tokio::test]
async fn extreme_settings_work() {
    let acceptor = local()
        .acceptors(usize::MAX)
        .overflow(Overflow::Grow { by: usize::MAX, max: usize::MAX })
        .backlog(u32::MAX)
        .idle_timeout(Duration::MAX)
        .first_byte_timeout(Duration::MAX)
        .min_rate(u32::MAX)
        .handler(echo)
        .build()
        .unwrap();
    served(&acceptor).await;
}

//! Any text as PEM, of a client and of a server: it is used, or refused with an error that shows nothing of a key.
//!
//! Next: `src/pem.rs`.

use perconn::acceptor::{Acceptor, ServerTls};
use perconn::{Builder, Conn, Tls};

pub(crate) fn check(text: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    // The runtime does not run, so nothing is dialed or accepted.
    let tls = Tls::new().roots_pem(text).client_certificate_pem(text, text);
    match Conn::builder("localhost:1").logger(|_| {}).tls(tls).and_then(Builder::build) {
        Ok(_) => {}
        Err(perconn::Error::InvalidConfig(error)) => assert_hides(&error, text),
        Err(other) => panic!("{other}"),
    }
    let tls = ServerTls::from_pem(text, text);
    match Acceptor::builder("127.0.0.1:0").tls(tls).handler(async |_, _| Ok(())).build() {
        Ok(_) => {}
        Err(perconn::acceptor::Error::InvalidConfig(error)) => assert_hides(&error, text),
        Err(other) => panic!("{other}"),
    }
}

/// A line of base64 may be a part of a key.
fn assert_hides(error: &str, text: &[u8]) {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    for line in text.split(|byte| !is_base64(byte)).filter(|line| line.len() >= 24) {
        let line = std::str::from_utf8(line).unwrap();
        assert!(!error.contains(line), "{line} is in the error: {error}");
    }
}

//! Any text as an address: it is accepted, or refused with an error that names it. Nothing panics.
//!
//! Next: `backoff.rs`.

use perconn::{Address, Conn, Error};

pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    assert_eq!(Address::from(text).as_str(), text);
    // The runtime does not run, so nothing is dialed.
    match Conn::builder(text).build() {
        Ok(_) => {
            let (host, port) = text.rsplit_once(':').expect("without a port it is no address");
            assert_ne!(port.parse::<u16>().expect("the port is a number"), 0);
            assert!(!host.is_empty() && host.is_ascii());
        }
        Err(Error::InvalidConfig(error)) => {
            assert!(error.contains(&format!("{text:?}")), "{text:?} is not in: {error}");
        }
        Err(other) => panic!("{text:?}: {other}"),
    }
}

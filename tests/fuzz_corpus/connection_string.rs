//! Any text as a connection string: it is understood, or refused with an error that does not show the password.
//!
//! Next: `src/postgres/connection_string.rs`.

use perconn::postgres::{Error, Listener};

/// A password that is in no text by chance.
const PASSWORD: &str = "hunter2-4711";

pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Some files have no end.
    if text.contains(PASSWORD) || ["/dev", "/proc", "/sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let with_password = format!("password={PASSWORD} {text}");
    let url = format!("postgres://user:{PASSWORD}@host/{text}");
    for text in [text, &with_password, &url] {
        // The runtime does not run, so nothing is dialed.
        match Listener::builder(text).logger(|_| {}).build() {
            Ok(listener) => assert!(!format!("{listener:?}").contains(PASSWORD)),
            Err(Error::InvalidConfig(error)) => assert!(!error.contains(PASSWORD), "{text:?}: {error}"),
            Err(other) => panic!("{text:?}: {other}"),
        }
    }
}

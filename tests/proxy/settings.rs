//! Settings that cannot work, and what `Debug` shows.

use perconn::{Conn, Error, Proxy, ProxyDialer};

/// The error of a connection through this proxy to this target.
async fn invalid(proxy: Proxy, target: &str) -> String {
    match Conn::builder(target).proxy(proxy).build() {
        Err(error @ Error::InvalidConfig(_)) => error.to_string(),
        Err(other) => panic!("expected InvalidConfig: {other:?}"),
        Ok(_) => panic!("expected InvalidConfig, but the connection was built"),
    }
}

#[tokio::test]
async fn bad_addresses_and_credentials_are_refused_when_built() {
    let good = "db.example:5432";
    for bad in ["proxy", "socks5://proxy:1080", "proxy:0", ""] {
        for proxy in [Proxy::socks5(bad), Proxy::http(bad)] {
            let text = invalid(proxy, good).await;
            assert!(text.contains(&format!("address {bad:?}")), "{text}");
        }
        let text = invalid(Proxy::http("proxy:1"), bad).await;
        assert!(text.contains(&format!("address {bad:?}")), "{text}");
    }
    let text = invalid(Proxy::http("proxy:1"), "[fe80::1%eth0]:1").await;
    assert!(text.contains("expected no zone"), "{text}");
    let long = "s3cret".repeat(50);
    for (user, password, expected) in [
        ("", "s3cret", "user of 0 bytes: expected 1 to 255"),
        ("me", "", "password of 0 bytes: expected 1 to 255"),
        ("me", &long, "password of 300 bytes: expected 1 to 255"),
    ] {
        let text = invalid(Proxy::socks5("proxy:1").credentials(user, password), good).await;
        assert!(text.contains("proxy proxy:1: ") && text.contains(expected) && !text.contains("s3cret"), "{text}");
    }
    for (user, password, expected) in [
        ("m:e", "s3cret", "user with a colon"),
        ("me", "s3cret\n", "control character"),
        ("\0", "s3cret", "control character"),
    ] {
        let text = invalid(Proxy::http("proxy:1").credentials(user, password), good).await;
        assert!(text.contains(expected) && !text.contains("s3cret"), "{text}");
    }
    let none: [&str; 0] = [];
    let empty = Conn::builder("cluster").dialer(ProxyDialer::with_addresses(Proxy::http("proxy:1"), none)).build();
    assert!(matches!(empty, Err(Error::InvalidConfig(_))));
}

#[test]
fn debug_shows_no_credentials() {
    let proxy = Proxy::socks5("proxy:1").credentials("us3r", "s3cret");
    let dialer = ProxyDialer::new(proxy.clone(), "db.example:5432");
    for text in [format!("{proxy:?}"), format!("{dialer:#?}"), format!("{:?}", Conn::builder("a:1").proxy(proxy))] {
        assert!(!text.contains("s3cret") && !text.contains("us3r"), "{text}");
    }
}

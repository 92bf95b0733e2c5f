//! Any bytes as the answers of a proxy: the dial fails with an error that names the proxy, or each byte behind the answers is the
//! target's.
//!
//! The first byte chooses the protocol, and whether there are credentials. Next: `src/dial/proxy.rs`.

use perconn::{Dial, Proxy, ProxyDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) fn check(bytes: &[u8]) {
    let Some((choice, answers)) = bytes.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = if choice & 1 == 0 { Proxy::socks5(address) } else { Proxy::http(address) };
        let proxy = if choice & 2 == 0 { proxy } else { proxy.credentials("user", "password") };
        let mut dialer = ProxyDialer::new(proxy, "target.example:1");
        let answers_sent = answers.to_vec();
        let playing = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The client may have had enough before it has got everything.
            let _ = stream.write_all(&answers_sent).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        match dialer.dial().await {
            Ok(mut stream) => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                let read = answers.strip_suffix(&rest[..]).expect("the rest is what was sent");
                let is_whole = match choice & 1 {
                    0 => read.starts_with(&[5, 0]) || read.starts_with(&[5, 2]),
                    _ => read.starts_with(b"HTTP/1.") && (read.ends_with(b"\n\n") || read.ends_with(b"\n\r\n")),
                };
                assert!(is_whole, "{}", read.escape_ascii());
            }
            Err(error) => assert_eq!(error.to_string(), format!("proxy {address}")),
        }
        assert_eq!(dialer.unfinished_step(), None);
        let _ = playing.await;
    });
}

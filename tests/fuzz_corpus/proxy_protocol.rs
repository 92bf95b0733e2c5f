//! Any bytes from a trusted proxy: the connection ends, or its handler gets what the header says and each byte behind it.
//!
//! Next: `src/acceptor/proxy_protocol.rs`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

use perconn::acceptor::{Acceptor, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// The number of the next acceptor: each has an address of its own.
static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) fn check(bytes: &[u8]) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let address = SocketAddr::from_abstract_name(format!("perconn-fuzz-{}-{number}", std::process::id())).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, mut served) = mpsc::unbounded_channel();
        let _acceptor = Acceptor::builder(listener)
            .proxy_protocol(["unix"])
            .logger(|_| {})
            .handler(move |mut stream: Stream, peer| {
                let sender = sender.clone();
                async move {
                    let mut rest = Vec::new();
                    stream.read_to_end(&mut rest).await?;
                    let _ = sender.send((peer, stream.proxy_header().cloned(), rest));
                    Ok(())
                }
            })
            .build()
            .unwrap();
        let stream = UnixStream::connect_addr(&address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut stream = tokio::net::UnixStream::from_std(stream).unwrap();
        // It may be refused before it has sent everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let Ok((peer, header, rest)) = served.try_recv() else { return };
        let header = header.expect("a trusted proxy has sent it");
        assert_eq!(header.client().or_else(|| peer.addr()), peer.addr());
        let whole = bytes.strip_suffix(&rest[..]).expect("the rest is what was sent");
        if let Some([_, _, high, low, tail @ ..]) = whole.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
            assert_eq!(usize::from(u16::from_be_bytes([*high, *low])), tail.len());
            return;
        }
        let line = whole.strip_prefix(b"PROXY ").and_then(|line| line.strip_suffix(b"\r\n")).expect("a whole line");
        assert!(!line.contains(&b'\n'), "{}", line.escape_ascii());
        // What follows UNKNOWN is nobody's business, and may be no text.
        if let Some(client) = header.client() {
            let words: Vec<_> = std::str::from_utf8(line).expect("addresses are text").split(' ').collect();
            assert_eq!((words[1].parse(), words[3].parse()), (Ok(client.ip()), Ok(client.port())));
        }
    });
}

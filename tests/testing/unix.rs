//! The proxy between sockets of the Unix domain.

use std::io::ErrorKind;

use perconn::testing::{Cut, FaultProxy, Link, LinkEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::support::in_time;

#[tokio::test]
async fn unix_sockets_are_cut_and_refused_too() {
    let folder = std::env::temp_dir().join(format!("perconn-testing-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (front, back) = (folder.join("front"), folder.join("back"));
    let _ = std::fs::remove_file(&back);
    let listener = UnixListener::bind(&back).unwrap();
    let proxy = FaultProxy::start_unix(&front, &back).await.unwrap();
    assert_eq!(proxy.path(), front);
    let error = FaultProxy::start_unix(&front, &back).await.unwrap_err();
    assert!(error.to_string().contains(front.to_str().unwrap()), "{error}");
    proxy.script([Link::pass().cut_after(2, Cut::Close), Link::accept_and_close()]);

    let mut client = in_time("dial", UnixStream::connect(&front)).await.unwrap();
    let (mut server, _) = in_time("accept", listener.accept()).await.unwrap();
    client.write_all(b"ab").await.unwrap();
    let mut all = Vec::new();
    in_time("the end", server.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"ab");
    assert_eq!(in_time("the end", client.read(&mut [0])).await.unwrap(), 0);
    let mut client = in_time("dial", UnixStream::connect(&front)).await.unwrap();
    assert_eq!(in_time("the end", client.read(&mut [0])).await.unwrap(), 0);

    proxy.refuse();
    assert_eq!(UnixStream::connect(&front).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    proxy.heal();
    let mut client = in_time("dial", UnixStream::connect(&front)).await.unwrap();
    let (mut server, _) = in_time("accept", listener.accept()).await.unwrap();
    server.write_all(b"x").await.unwrap();
    assert_eq!(in_time("read", client.read_u8()).await.unwrap(), b'x');
    proxy.cut(Cut::Reset);
    assert!(matches!(proxy.ledger()[2].end, Some(LinkEnd::Cut(Cut::Reset))));
    assert!(in_time("the end", client.read(&mut [0])).await.is_ok_and(|n| n == 0));
    drop(proxy);
    assert!(!front.exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn file_that_somebody_else_has_put_in_place_stays() {
    let folder = std::env::temp_dir().join(format!("perconn-testing-taken-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let front = folder.join("front");
    let proxy = FaultProxy::start_unix(&front, folder.join("back")).await.unwrap();
    proxy.refuse();
    std::fs::remove_file(&front).unwrap();
    std::fs::write(&front, "somebody else's").unwrap();
    proxy.heal();
    drop(proxy);
    assert_eq!(std::fs::read_to_string(&front).unwrap(), "somebody else's");
    std::fs::remove_dir_all(folder).unwrap();
}

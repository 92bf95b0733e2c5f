//! One long message, after which a connection goes back to little memory.

#[cfg(any(feature = "acceptor", feature = "codec"))]
use crate::{live_bytes, support::in_time};

/// The length of the message.
#[cfg(any(feature = "acceptor", feature = "codec"))]
const LONG: usize = 4 << 20;

/// What a connection may keep of it.
#[cfg(any(feature = "acceptor", feature = "codec"))]
const KEPT: isize = 256 << 10;

#[cfg(feature = "codec")]
#[tokio::test]
async fn codec_gives_the_memory_of_a_long_frame_back() {
    use futures_util::{SinkExt, StreamExt};
    use perconn::codec::Framed;
    use tokio_util::codec::LinesCodec;

    let server = crate::support::Server::start().await;
    let (conn, peer) = server.pair().await;
    // A codec whose frames are copies, so that they do not take the memory along.
    let mut framed = Framed::new(conn, LinesCodec::new());
    let echo = async {
        let (mut reader, mut writer) = peer.into_split();
        tokio::io::copy(&mut reader, &mut writer).await
    };
    tokio::spawn(echo);
    for length in [1, LONG, 1] {
        // The sink and the stream at the same time, as neither end of the socket takes all of a long frame.
        let before = live_bytes();
        let (mut sink, mut stream) = (&mut framed).split();
        let frame = "7".repeat(length);
        let (sent, received) = in_time("the echo", async { tokio::join!(sink.send(frame), stream.next()) }).await;
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap().len(), length);
        drop((sink, stream));
        if length == LONG {
            // The next read of the stream gives its memory back.
            assert!(futures_util::FutureExt::now_or_never(framed.next()).is_none());
            let kept = live_bytes() - before;
            assert!(kept < KEPT, "{kept} bytes are kept");
        }
    }
}

#[cfg(feature = "acceptor")]
#[tokio::test]
async fn acceptor_gives_the_memory_of_a_long_line_back() {
    use perconn::acceptor::{Acceptor, LineConn};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let acceptor = Acceptor::builder("127.0.0.1:0")
        .max_line_length(LONG)
        .line_handler(async |line: Vec<u8>, conn: LineConn| conn.send(line).await)
        .build()
        .unwrap();
    let mut client = tokio::net::TcpStream::connect(acceptor.local_addr().unwrap()).await.unwrap();
    let mut echo = async |sent: &[u8], received: &mut [u8]| {
        let (mut reader, mut writer) = client.split();
        let echo = async { tokio::join!(writer.write_all(sent), reader.read_exact(received)) };
        let (sent, received) = in_time("the echo", echo).await;
        assert!(sent.is_ok() && received.is_ok());
    };
    echo(b"a\n", &mut [0; 2]).await;
    let before = live_bytes();
    {
        // The next line has begun when the long one ends.
        let mut long = vec![b'x'; LONG];
        long.extend_from_slice(b"\nnext");
        echo(&long, &mut vec![0; LONG + 1]).await;
    }
    let given_back = async {
        while live_bytes() - before > KEPT {
            tokio::task::yield_now().await;
        }
    };
    in_time("the memory", given_back).await;
    echo(b" line\n", &mut [0; 10]).await;
}

//! WebSocket with `tokio-tungstenite`, against a server of the same crate in a process of its own.

use std::net::SocketAddr;
use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use perconn::{Session, Sessions};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::servers::RealServer;
use crate::support::in_time;
use crate::through_kills::{AnyError, Client, on_one_and_two_threads, through_kills};

/// Tells the process of the server where to listen.
const ADDRESS: &str = "PERCONN_WEBSOCKET_SERVER";
/// To this, the server gives only half an answer: the first part of a message in two.
const LONG: &str = "long";

/// Not a test: the server, when this binary is started by [`server`].
#[tokio::test]
async fn process_of_the_server() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let listener = TcpListener::bind(address.parse::<SocketAddr>().unwrap()).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream));
    }
}

async fn serve(stream: TcpStream) -> Result<(), Error> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) if text == LONG => {
                socket.send(Message::text("begins")).await?;
                let half = Frame::message("and never en", OpCode::Data(Data::Text), false);
                socket.send(Message::Frame(half)).await?;
            }
            Message::Text(text) => socket.send(Message::text(format!("answer {text}"))).await?,
            _ => {}
        }
    }
    Ok(())
}

fn server() -> RealServer {
    RealServer::start("websocket", |_, port| {
        move || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["websocket::process_of_the_server", "--exact", "--nocapture"]);
            command.env(ADDRESS, format!("127.0.0.1:{port}"));
            command
        }
    })
}

struct WebSocket(WebSocketStream<Session>);

impl WebSocket {
    async fn receive(&mut self) -> Result<Message, AnyError> {
        // (The end of the stream comes after the closing handshake only.)
        self.0.next().await.ok_or("closed in good order")?.map_err(Into::into)
    }
}

impl Client for WebSocket {
    type Config = ();

    async fn connect((): &(), sessions: &mut Sessions) -> Result<Self, AnyError> {
        let session = sessions.next().await?;
        Ok(Self(client_async("ws://localhost/", session).await?.0))
    }

    async fn ask(&mut self, number: u32) -> Result<(), AnyError> {
        self.0.send(Message::text(number.to_string())).await?;
        assert_eq!(self.receive().await?, Message::text(format!("answer {number}")));
        Ok(())
    }

    async fn ask_for_long(&mut self, kill: impl FnOnce()) -> Result<(), AnyError> {
        self.0.send(Message::text(LONG)).await?;
        assert_eq!(self.receive().await?, Message::text("begins"));
        kill();
        self.receive().await.map(drop)
    }

    async fn ended(mut self) {
        // A client that goes on after its error must not do so on the next link.
        let _ = self.0.send(Message::text("astray")).await;
        let _ = self.0.close(None).await;
    }
}

#[test]
fn messages_are_answered_through_kills_of_a_websocket_server() {
    let server = server();
    on_one_and_two_threads(async || {
        for error in through_kills::<WebSocket>(&(), &server).await {
            let error = error.downcast_ref::<Error>().expect("an error of tungstenite");
            let is_break = matches!(error, Error::Io(_) | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake));
            assert!(is_break, "{error:?}");
        }
    });
}

#[tokio::test]
async fn closing_handshake_leaves_the_connection_to_the_next_client() {
    let server = server();
    let mut sessions = server.sessions();
    for number in 0..5 {
        let mut client = in_time("connect", WebSocket::connect(&(), &mut sessions)).await.unwrap();
        in_time("ask", client.ask(number)).await.unwrap();
        client.0.close(None).await.unwrap();
        while let Some(message) = in_time("the goodbye", client.0.next()).await {
            assert!(message.unwrap().is_close());
        }
    }
}

//! The servers: threads that read everything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The length of a message.
pub(crate) const MESSAGE: usize = 100;

/// A server that reads.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How many bytes each connection has had at its end.
    received: Receiver<usize>,
}

impl Sink {
    /// Reads and says nothing.
    pub(crate) fn silent() -> Self {
        Self::start(|stream, total| {
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                *total += len;
            }
        })
    }

    /// Answers each message with one byte, those of one read at once.
    pub(crate) fn answering() -> Self {
        Self::start(|stream, total| {
            let mut buffer = vec![0; 256 * 1024];
            let answers = vec![b'+'; 256 * 1024 / MESSAGE + 1];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                let before = *total / MESSAGE;
                *total += len;
                if stream.write_all(&answers[..*total / MESSAGE - before]).is_err() {
                    return;
                }
            }
        })
    }

    fn start(serve: fn(&mut TcpStream, &mut usize)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received): (Sender<usize>, _) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, sender) = (stream.unwrap(), sender.clone());
                thread::spawn(move || {
                    let mut total = 0;
                    serve(&mut stream, &mut total);
                    let _ = sender.send(total);
                });
            }
        });
        Self { address, received }
    }

    /// Waits until a connection has ended, and checks what it has brought.
    pub(crate) fn check(&self, messages: usize) {
        assert_eq!(self.received.recv().unwrap(), messages * MESSAGE);
    }
}

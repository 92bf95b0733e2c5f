//! The servers: threads that read everything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// The length of a message.
pub(crate) const MESSAGE: usize = 100;

/// A server that reads.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How many messages it has read.
    read: Arc<Progress>,
}

/// How many bytes were read on all connections.
#[derive(Default)]
struct Progress {
    bytes: Mutex<usize>,
    more: Condvar,
}

impl Progress {
    fn add(&self, bytes: usize) {
        *self.bytes.lock().unwrap() += bytes;
        self.more.notify_all();
    }
}

impl Sink {
    /// Reads and says nothing.
    pub(crate) fn silent() -> Self {
        Self::start(|stream, progress| {
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                progress.add(len);
            }
        })
    }

    /// Answers each message with one byte, those of one read at once.
    pub(crate) fn answering() -> Self {
        Self::start(|stream, progress| {
            let mut buffer = vec![0; 256 * 1024];
            let answers = vec![b'+'; 256 * 1024 / MESSAGE + 1];
            let mut total = 0;
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                let before = total / MESSAGE;
                total += len;
                progress.add(len);
                if stream.write_all(&answers[..total / MESSAGE - before]).is_err() {
                    return;
                }
            }
        })
    }

    fn start(serve: fn(&mut TcpStream, &Progress)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let read = Arc::new(Progress::default());
        let progress = Arc::clone(&read);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, progress) = (stream.unwrap(), Arc::clone(&progress));
                thread::spawn(move || serve(&mut stream, &progress));
            }
        });
        Self { address, read }
    }

    /// Waits until this many messages were read, and begins to count anew.
    pub(crate) fn wait_for(&self, messages: usize) {
        let mut bytes = self.read.bytes.lock().unwrap();
        while *bytes < messages * MESSAGE {
            bytes = self.read.more.wait(bytes).unwrap();
        }
        assert_eq!(std::mem::take(&mut *bytes), messages * MESSAGE);
    }
}

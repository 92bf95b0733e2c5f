//! A proxy between a listener and PostgreSQL. It plays the outages.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
}

struct Shared {
    server: SocketAddr,
    is_closing: AtomicBool,
    dials: AtomicU64,
    /// The sockets of both sides of each link.
    links: Mutex<Vec<TcpStream>>,
    /// The bytes from the server that are held back, and the socket for which they are.
    held: Mutex<Option<Vec<u8>>>,
    client: Mutex<Option<TcpStream>>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let shared = Shared {
            server,
            is_closing: AtomicBool::new(false),
            dials: AtomicU64::new(0),
            links: Mutex::default(),
            held: Mutex::default(),
            client: Mutex::default(),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self { address: any, shared: Arc::new(shared), listener: None };
        proxy.listen();
        proxy
    }

    /// Accepts links, also again after [`refuse`](Self::refuse).
    pub(crate) fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        self.listener = Some(listener.try_clone().unwrap());
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                shared.dials.fetch_add(1, Ordering::Relaxed);
                if !shared.is_closing.load(Ordering::Relaxed) {
                    shared.join(client);
                }
            }
        });
    }

    /// Breaks all links, and refuses new ones.
    pub(crate) fn refuse(&mut self) {
        if let Some(listener) = self.listener.take() {
            // Ends `accept` in the other thread, and resets what is left in the queue.
            SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
        }
        self.shared.break_all();
    }

    /// Breaks all links, and closes new ones as soon as it has accepted them.
    pub(crate) fn accept_and_close(&mut self) {
        self.shared.is_closing.store(true, Ordering::Relaxed);
        self.shared.break_all();
    }

    /// The number of links that were accepted so far.
    pub(crate) fn dials(&self) -> u64 {
        self.shared.dials.load(Ordering::Relaxed)
    }

    /// Holds back everything that the server sends from now on.
    pub(crate) fn hold(&self) {
        *self.shared.held.lock().unwrap() = Some(Vec::new());
    }

    pub(crate) fn wait_for_held(&self, length: usize) {
        while self.shared.held.lock().unwrap().as_ref().is_some_and(|held| held.len() < length) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends everything that was held back.
    pub(crate) fn release(&self) {
        let mut held = self.shared.held.lock().unwrap();
        let mut client = self.shared.client.lock().unwrap();
        if let (Some(held), Some(client)) = (held.take(), client.as_mut()) {
            client.write_all(&held).unwrap();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

impl Shared {
    fn join(self: &Arc<Self>, mut client: TcpStream) {
        let mut server = TcpStream::connect(self.server).unwrap();
        let both = [&client, &server].map(|stream| stream.try_clone().unwrap());
        both.iter().for_each(|stream| stream.set_nodelay(true).unwrap());
        let [to_client, mut to_server] = both;
        self.links.lock().unwrap().extend([to_client.try_clone().unwrap(), to_server.try_clone().unwrap()]);
        *self.client.lock().unwrap() = Some(to_client.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let shared = Arc::clone(self);
        let mut to_client = to_client;
        thread::spawn(move || {
            let mut buf = vec![0; 64 << 10];
            while let Ok(length @ 1..) = server.read(&mut buf) {
                let mut held = shared.held.lock().unwrap();
                match &mut *held {
                    Some(held) => held.extend_from_slice(&buf[..length]),
                    None if to_client.write_all(&buf[..length]).is_err() => break,
                    None => {}
                }
            }
            let _ = to_client.shutdown(Shutdown::Write);
        });
    }

    fn break_all(&self) {
        for stream in self.links.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The number of refused dials in this network namespace, since it exists.
pub(crate) fn refused_dials() -> u64 {
    let snmp = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
    let (names, figures) = (tcp.next().unwrap(), tcp.next().unwrap());
    let (_, count) = names.zip(figures).find(|(name, _)| *name == "AttemptFails").unwrap();
    count.parse().unwrap()
}

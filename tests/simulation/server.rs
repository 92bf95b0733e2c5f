//! The dialer of a schedule, and the servers that send, stall and die.
//!
//! Next: `client.rs`, the program on the other side.

use std::io;
use std::time::Duration;

use perconn::{Address, Dial};
use tokio::time::{sleep, timeout};

use crate::choices::Choices;
use crate::journal::{End, Journal, Note};
use crate::network::{Link, Network, Stream};

/// The payload of an intended panic.
pub struct Simulated;

/// The dialer of a schedule.
pub struct Dialer {
    pub network: Network,
    pub choices: Choices,
    pub journal: Journal,
    pub dial_timeout: Duration,
    /// The servers that it dials one after the other.
    pub servers: Servers,
    pub addresses: Vec<Address>,
    /// The server of the next dial, and that of the last one.
    pub next: usize,
    pub dialed: usize,
}

/// The servers of a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Servers {
    pub count: usize,
    /// One server that accepts every dial and keeps every link, among others that do not.
    pub steady: Option<usize>,
    /// They answer requests, and send nothing else.
    pub answer: bool,
}

/// How the server of one link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Ordinary,
    Steady,
    /// It ends each link soon.
    Flapping,
}

impl Servers {
    fn manner(self, server: usize) -> Manner {
        match self.steady {
            None => Manner::Ordinary,
            Some(steady) if steady == server => Manner::Steady,
            Some(_) => Manner::Flapping,
        }
    }
}

/// Records a dial that panicked or was dropped.
struct DialGuard<'a>(Option<&'a Journal>);

impl Drop for DialGuard<'_> {
    fn drop(&mut self) {
        if let Some(journal) = self.0 {
            journal.write(if std::thread::panicking() { Note::DialFailed } else { Note::DialDropped });
        }
    }
}

impl Dial for Dialer {
    type Stream = Stream;

    async fn dial(&mut self) -> io::Result<Stream> {
        self.dialed = self.next;
        let manner = self.servers.manner(self.dialed);
        self.journal.write(Note::DialBegan(self.dialed));
        let mut guard = DialGuard(Some(&self.journal));
        let outcome = self.attempt(manner).await;
        guard.0 = None;
        self.journal.write(match &outcome {
            Ok(link) => Note::DialSucceeded(link.lock().number),
            Err(_) => Note::DialFailed,
        });
        let link = outcome?;
        let server = Server {
            manner,
            answers: self.servers.answer,
            link: link.clone(),
            network: self.network.clone(),
            choices: self.choices.clone(),
            journal: self.journal.clone(),
        };
        tokio::spawn(server.run());
        Ok(self.network.stream(&link))
    }

    fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    fn dialed_address(&self) -> Option<&Address> {
        self.addresses.get(self.dialed)
    }

    fn dial_failed(&mut self) {
        self.next = (self.dialed + 1) % self.servers.count;
    }

    fn is_closed(stream: &Stream) -> bool {
        stream.is_closed()
    }
}

impl Dialer {
    /// The outcome of one dial, by chance.
    async fn attempt(&self, manner: Manner) -> io::Result<Link> {
        let choices = &self.choices;
        if self.network.is_healthy() || manner == Manner::Steady {
            return Ok(self.network.open_link());
        }
        match choices.below(12) {
            0..=4 => {}
            5..=6 => sleep(choices.time(self.dial_timeout)).await,
            // It is ready at the same moment as the timeout.
            7 => sleep(self.dial_timeout).await,
            8 => return Err(io::ErrorKind::ConnectionRefused.into()),
            9 => {
                sleep(choices.time(self.dial_timeout)).await;
                return Err(io::Error::other("the set-up failed"));
            }
            10 => {
                // Until the timeout, the close, or the end of the faults.
                self.network.sleep(Duration::MAX).await;
            }
            _ => std::panic::panic_any(Simulated),
        }
        Ok(self.network.open_link())
    }
}

/// The server of one link.
struct Server {
    manner: Manner,
    /// It answers requests, and sends nothing else.
    answers: bool,
    link: Link,
    network: Network,
    choices: Choices,
    journal: Journal,
}

impl Server {
    async fn run(self) {
        let Self { link, network, choices, journal, .. } = &self;
        // A server that accepts and closes, or one that lives for a while.
        let steps = if choices.chance(15) { 0 } else { 1 + choices.below(30) };
        let steps = if self.manner == Manner::Flapping { steps / 8 } else { steps };
        for _ in 0..steps {
            if network.is_healthy() || link.lock().client_dropped {
                break;
            }
            match choices.below(10) {
                0..=2 => self.send(1 + choices.below(300)),
                3..=5 => link.take(1 + choices.below(300)),
                6 => network.sleep(choices.time(Duration::from_secs(10))).await,
                7 => {
                    link.lock().stalled = true;
                    network.sleep(choices.time(Duration::from_secs(30))).await;
                    link.change(|state| state.stalled = false);
                }
                _ => {
                    // Until the client changes something, or for a while.
                    let _ = timeout(choices.time(Duration::from_secs(3)), link.changed()).await;
                }
            }
        }
        let ends = match self.manner {
            Manner::Ordinary => choices.chance(85),
            Manner::Steady => false,
            Manner::Flapping => true,
        };
        if !network.is_healthy() && ends {
            // With or without bytes in flight.
            if choices.chance(30) {
                self.send(1 + choices.below(100));
            }
            if choices.chance(70) {
                return link.end(choices.pick(&[End::Close, End::Reset]), journal);
            }
            // It goes on reading until the client has dropped the link.
            link.half_close(journal);
            while !link.lock().client_dropped {
                link.take(1 + choices.below(300));
                let _ = timeout(Duration::from_secs(1), link.changed()).await;
            }
            return;
        }
        // A healthy server, or one that is silent until the faults stop.
        while !link.lock().client_dropped {
            if network.is_healthy() || self.manner == Manner::Steady {
                link.take(usize::MAX >> 1);
                self.send(10);
                if link.lock().client_shut {
                    return link.end(End::Close, journal);
                }
            }
            let _ = timeout(Duration::from_secs(1), link.changed()).await;
        }
    }

    /// Sends up to `n` bytes, or what there is to answer.
    fn send(&self, n: usize) {
        if self.answers { self.link.answer() } else { self.link.send(n) }
    }
}

//! The proxy's own task: accepts clients, gives each its entry of the script, and carries out what the test asks.
//!
//! Before it does what the test asks, it accepts the clients that wait in the kernel's queue. So a client whose dial has
//! succeeded is a link, and a cut finds it.
//!
//! Next: [`link_task`](super::link_task), one link.

use std::collections::HashMap;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::black_hole::set_deaf;
use super::conditions::Conditions;
use super::ledger::Ledger;
use super::link_task::{Done, LinkTask, Order};
use super::plan::{Cut, Direction, LONGEST};
use super::port::Port;
use super::script::Script;
use super::socket::{Socket, Upstream};

/// What the acceptor, the links and the handle share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The weather.
    pub(super) conditions: watch::Sender<Conditions>,
    /// What has happened.
    pub(super) ledger: Ledger,
    /// Where the server listens.
    pub(super) upstream: Upstream,
    /// The seed of the jitter.
    pub(super) seed: u64,
}

/// What the test asks.
pub(super) enum Command {
    /// Play this script from the next link on.
    Script(Script),
    /// Cut all live links, or the one of this number.
    Cut(Option<usize>, Cut),
    /// Change the weather.
    Weather(Box<dyn FnOnce(&mut Conditions) + Send>),
}

/// A command, and the thread that waits until it has been carried out.
pub(super) type Request = (Command, std_mpsc::Sender<()>);

/// Accepts clients.
pub(super) struct Acceptor {
    /// Where they dial.
    port: Port,
    /// What happens to them.
    script: Script,
    /// What the test asks.
    requests: mpsc::UnboundedReceiver<Request>,
    /// What all links share.
    shared: Arc<Shared>,
    /// The live links.
    links: HashMap<usize, mpsc::UnboundedSender<Order>>,
    /// The numbers of links that have ended.
    ended: mpsc::UnboundedReceiver<usize>,
    /// For the links.
    end_sender: mpsc::UnboundedSender<usize>,
    /// Why and how long the script keeps the port closed.
    refusal: Option<Refusal>,
}

/// An entry of the script that refuses.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// Until this long after the end of that link.
    AfterLink(usize, Duration),
    /// Until this moment.
    Until(Instant),
}

impl Refusal {
    /// For this long, at most for a day.
    fn starting_now(time: Duration) -> Self {
        Self::Until(Instant::now() + time.min(LONGEST))
    }
}

/// How soon a port that somebody else has taken is tried again.
const PORT_RETRY: Duration = Duration::from_millis(20);

impl Acceptor {
    /// An open port, without a script.
    pub(super) fn new(port: Port, requests: mpsc::UnboundedReceiver<Request>, shared: Arc<Shared>) -> Self {
        let (end_sender, ended) = mpsc::unbounded_channel();
        let (script, links) = (Script::default(), HashMap::new());
        Self { port, script, requests, shared, links, ended, end_sender, refusal: None }
    }

    /// Accepts until the handle is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let until = match self.refusal {
                Some(Refusal::Until(at)) => Some(at),
                _ => None,
            };
            let holds = self.shared.conditions.borrow().holds_dials();
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some((command, done)) => {
                        self.carry_out(command).await;
                        // The thread may have been interrupted.
                        let _ = done.send(());
                    }
                    None => return,
                },
                Some(number) = self.ended.recv() => self.link_ended(number),
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => self.next_entry(None),
                accepted = self.port.accept(), if !holds => match accepted {
                    Ok(client) => self.accepted(client),
                    // The client has gone already, or descriptors are short.
                    Err(error) => {
                        log::warn!("a fault proxy cannot accept: {error}");
                        tokio::time::sleep(PORT_RETRY).await;
                    }
                },
            }
        }
    }

    /// Carries a command out, and returns when it holds for all links.
    async fn carry_out(&mut self, command: Command) {
        while let Some(client) = self.port.accept_queued() {
            self.accepted(client);
        }
        match command {
            Command::Script(script) => {
                self.script = script;
                self.refusal = None;
                self.next_entry(None);
            }
            Command::Cut(number, cut) => self.order(number, |done| Order::Cut(cut, done)).await,
            Command::Weather(change) => {
                self.shared.conditions.send_modify(change);
                self.set_port();
                self.order(None, Order::Weather).await;
            }
        }
    }

    /// Gives an order to all links, or to the one of this number, and waits until it has been carried out.
    async fn order(&mut self, number: Option<usize>, order: impl Fn(Done) -> Order) {
        let (done, mut all_done) = mpsc::channel(1);
        let links = self.links.iter().filter(|(link, _)| number.is_none_or(|number| number == **link));
        // A link that has ended needs no order.
        links.for_each(|(_, link)| drop(link.send(order(done.clone()))));
        drop(done);
        while all_done.recv().await.is_some() {}
    }

    /// A client has come.
    fn accepted(&mut self, client: Socket) {
        let plan = self.script.next_link();
        let number = self.shared.ledger.next_number();
        let (sender, orders) = mpsc::unbounded_channel();
        self.links.insert(number, sender);
        // A test that waits for this link finds the port as the script wants it.
        self.next_entry(Some(number));
        self.shared.ledger.add(client.peer_addr());
        let (shared, ended) = (Arc::clone(&self.shared), self.end_sender.clone());
        let link = LinkTask { number, plan, client, shared, orders };
        tokio::spawn(async move {
            link.run().await;
            let _ = ended.send(number);
        });
    }

    /// A link has ended.
    fn link_ended(&mut self, number: usize) {
        self.links.remove(&number);
        if let Some(Refusal::AfterLink(link, time)) = self.refusal {
            if link == number {
                self.refusal = Some(Refusal::starting_now(time));
            }
        }
    }

    /// Looks at the next entry of the script: if it refuses, closes the port, otherwise opens it.
    fn next_entry(&mut self, after_link: Option<usize>) {
        self.refusal = self.script.take_refusal().map(|time| match after_link {
            Some(link) => Refusal::AfterLink(link, time),
            None => Refusal::starting_now(time),
        });
        self.set_port();
    }

    /// Opens or closes the port, as the script and the weather say.
    fn set_port(&mut self) {
        let conditions = self.shared.conditions.borrow();
        if self.refusal.is_some() || conditions.refuses {
            self.port.close();
        } else if let Err(error) = self.port.open() {
            log::warn!("a fault proxy cannot open its port again, and tries on: {error}");
            self.refusal = Some(Refusal::starting_now(PORT_RETRY));
        }
        if let Some(listener) = self.port.sock_ref() {
            set_deaf(&listener, conditions.is_black_hole(Direction::ToServer));
        }
    }
}

//! One link at work: what arrives goes to the reader's queue, what is asked goes to the server.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Connection};

use super::Notification;
use super::channels::Statement;
use super::end::Loss;
use super::heartbeat::{Heartbeat, Step};
use super::login::{Login, quoted};
use super::questions::{Asked, Questions, tell_all};
use super::shared::{Shared, State, set_waker};
use super::wire::Wire;
use crate::Session;
use crate::dial::BoxedStream;

/// How many notifications are read before the reader gets its turn.
const BATCH: usize = 256;

pub(super) struct Link {
    shared: Arc<Shared>,
    client: Arc<Client>,
    connection: Connection<Wire, NoTlsStream>,
    wire: Wire,
    /// What was sent and not answered.
    questions: Questions,
    /// What was read and is not in the queue yet.
    batch: Vec<Notification>,
    heartbeat: Heartbeat,
    /// (Set again only when it has run out: most of the time it is pushed back by what arrives.)
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Link {
    pub(super) fn new(
        shared: &Arc<Shared>,
        login: Login,
        session: Session<BoxedStream>,
        heartbeat: Option<Duration>,
    ) -> Self {
        login.wire.put(Box::new(session));
        Self {
            shared: Arc::clone(shared),
            client: Arc::new(login.client),
            connection: login.connection,
            wire: login.wire,
            questions: Questions::default(),
            batch: Vec::new(),
            heartbeat: Heartbeat::new(heartbeat, shared.ping_timeout),
            timer: None,
        }
    }

    /// Works until the link is lost; `None`: until the listener is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Loss>> {
        loop {
            let Some(room) = self.take_orders(cx) else { return Poll::Ready(None) };
            if room == 0 {
                // (Whoever takes from the queue wakes this task.)
                return Poll::Pending;
            }
            let drained = self.poll_messages(cx, room.min(BATCH));
            self.hand_over();
            if let Some(loss) = self.questions.poll_answers(cx, &self.shared) {
                return Poll::Ready(Some(loss));
            }
            match drained {
                Poll::Ready(Err(loss)) => return Poll::Ready(Some(loss)),
                // There is more; but the reader has its turn first.
                Poll::Ready(Ok(())) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => {}
            }
            match self.poll_heartbeat(cx) {
                Poll::Ready(Some(loss)) => return Poll::Ready(Some(loss)),
                // A question is to be sent.
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Looks at what is wanted, and sends what the server has to know. Gives the room in the queue; `None`: it is over.
    fn take_orders(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        let mut state = self.shared.lock();
        if state.end.is_some() {
            return None;
        }
        set_waker(&mut state.task, cx);
        let room = state.outbox.room();
        if room == 0 {
            state.full_since.get_or_insert_with(Instant::now);
            return Some(0);
        }
        let State { channels, questions, full_since, .. } = &mut *state;
        let was_full = full_since.take().is_some();
        let (statements, done) = channels.statements();
        let questions = std::mem::take(questions);
        drop(state);
        if was_full {
            self.heartbeat.resumed(Instant::now());
        }
        tell_all(done);
        for statement in statements {
            match statement {
                Statement::Listen { channel, ticket, leavers } => {
                    let sql = format!("LISTEN {}", quoted(&channel));
                    self.ask(cx, sql, Asked::Listen { channel, ticket, leavers });
                }
                Statement::Unlisten { channels, leavers } => {
                    let sql = channels.iter().map(|channel| format!("UNLISTEN {};", quoted(channel))).collect();
                    self.ask(cx, sql, Asked::Unlisten { channels, leavers });
                }
            }
        }
        for mut question in questions {
            if question.reply.is_closed() {
                continue;
            }
            if question.sql.is_empty() {
                self.heartbeat.asked(Instant::now());
            }
            self.ask(cx, std::mem::take(&mut question.sql), Asked::Question(question));
        }
        Some(room)
    }

    fn ask(&mut self, cx: &mut Context<'_>, sql: String, asked: Asked) {
        self.questions.ask(cx, &self.client, sql, asked);
    }

    /// What was asked will not be answered any more.
    pub(super) fn lost(self, loss: &Loss) {
        self.questions.lost(loss);
    }

    /// Reads until there is nothing more, or so many notifications.
    fn poll_messages(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<(), Loss>> {
        self.wire.limit(room);
        let drained = self.poll_connection(cx);
        let may_be_more = self.wire.take_arrived(&mut self.batch);
        if may_be_more && drained.is_pending() { Poll::Ready(Ok(())) } else { drained }
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Loss>> {
        for _ in 0..BATCH {
            match std::task::ready!(self.connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    log::debug!(target: "perconn", "PostgreSQL: {}: {}", notice.severity(), notice.message());
                }
                // Only one that is too long for `Frames`. Those before it go first.
                Some(Ok(AsyncMessage::Notification(long))) => {
                    self.wire.take_passed(&mut self.batch);
                    self.batch.push(Notification::new(long.process_id(), long.channel(), long.payload()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(Loss::of(error))),
                None => return Poll::Ready(Err(Loss::of("the connection has ended"))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives what was read to the reader, and wakes it once.
    fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        let State { channels, outbox, reader, .. } = &mut *state;
        let mut batch = self.batch.drain(..).peekable();
        // Many in a row are of one channel.
        let mut known = None;
        while let Some(notification) = batch.next() {
            let is_forgotten = known.unwrap_or_else(|| channels.is_forgotten(notification.channel()));
            known = batch.peek().filter(|next| next.channel() == notification.channel()).map(|_| is_forgotten);
            if !is_forgotten {
                outbox.notification(notification);
            }
        }
        drop(batch);
        let reader = reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Ready: the link is given up, or a question was put.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Option<Loss>> {
        loop {
            let now = Instant::now();
            match self.heartbeat.step(now, self.wire.heard()) {
                Step::GiveUp => return Poll::Ready(Some(Loss::Silent(self.shared.ping_timeout))),
                Step::Ask => {
                    if !self.questions.has_heartbeat() {
                        self.ask(cx, String::new(), Asked::Heartbeat);
                    }
                    return Poll::Ready(None);
                }
                Step::Wait(None) => return Poll::Pending,
                Step::Wait(Some(due)) => {
                    if self.timer.as_ref().is_none_or(|(end, _)| due < *end) {
                        self.timer = Some((due, Box::pin(tokio::time::sleep_until(due))));
                    }
                    let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
                    std::task::ready!(timer.as_mut().poll(cx));
                    // It ran out, or was pushed back meanwhile; the next turn knows.
                    self.timer = None;
                }
            }
        }
    }

    /// Says goodbye, if that takes no wait.
    pub(super) fn goodbye(mut self, cx: &mut Context<'_>) {
        self.questions = Questions::default();
        self.wire.is_read_no_more();
        let Self { client, mut connection, .. } = self;
        drop(client);
        for _ in 0..BATCH {
            match connection.poll_message(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None | Some(Err(_))) | Poll::Pending => return,
            }
        }
    }
}

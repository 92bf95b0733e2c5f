//! One connection in use: notifications go to the reader's queue, queries go to the server.
//!
//! Next: [`ListenerTask`](super::task::ListenerTask), which polls it and replaces it after a loss.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{AsyncMessage, Client, Connection};

use super::Notification;
use super::cause::Cause;
use super::heartbeat::{Heartbeat, HeartbeatStep};
use super::listener_shared::{ListenerShared, ListenerState, register_waker};
use super::login::{Login, PROCESS_ID};
use super::pending_queries::{PendingQueries, QueryKind};
use super::reply::{UserQuery, acknowledge, drop_quietly};
use super::stream::SwapStream;
use crate::Session;
use crate::dial::BoxedStream;
use crate::hooks::debug;
use crate::panics::wake;
use crate::poll_once::poll_once;

/// How many notifications are read before the reader gets its turn.
const BATCH: usize = 256;

/// A connection that is logged in and in use.
///
/// Each [`poll`](ServerConnection::poll) does the same in a round:
///
/// 1. Send what callers have asked for, unless the queue is full: then nothing is sent and nothing is read.
/// 2. Let the protocol read and write. The stream keeps the notifications.
/// 3. Move the notifications to the reader's queue.
/// 4. Pass the answers of the server to their callers.
/// 5. Send a heartbeat if the server is silent, or report the loss if it stays silent.
pub(super) struct ServerConnection {
    /// Has the reader's queue, the channels and the queries to send.
    shared: Arc<ListenerShared>,
    /// Sends queries to `protocol`.
    client: Arc<Client>,
    /// Reads and writes messages; must be polled for the queries to proceed.
    protocol: Connection<SwapStream, SwapStream>,
    /// The stream under `protocol`.
    stream: SwapStream,
    /// Queries that were sent and are not answered.
    pending: PendingQueries,
    /// Notifications that were read and are not in the queue yet.
    batch: Vec<Notification>,
    /// When to send a heartbeat, and when to give up.
    heartbeat: Heartbeat,
    /// The reader's queue was full, and not everything that has arrived was read since.
    is_behind: bool,
    /// The database has the encoding UTF-8, or takes bytes as they are.
    is_utf8: bool,
    /// Behind a pooler: the process that ran the first query.
    pooled_process_id: Option<i32>,
    /// The server's last warning, and when the bytes had arrived that it was in.
    last_warning: Option<(DbError, Instant)>,
    /// The end of the timer, and the timer. It is set again only after it has fired: most of the time, arriving bytes
    /// move the due time to a later one.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl ServerConnection {
    /// Goes on with the protocol of `login` over `session`.
    pub(super) fn new(
        shared: &Arc<ListenerShared>,
        login: Login,
        session: Session<BoxedStream>,
        heartbeat: Option<Duration>,
    ) -> Self {
        login.stream.resume_over(Box::new(session));
        let encoding = login.protocol.parameter("server_encoding");
        Self {
            shared: Arc::clone(shared),
            is_utf8: matches!(encoding, None | Some("UTF8" | "SQL_ASCII")),
            pooled_process_id: login.pooled_process_id,
            client: Arc::new(login.client),
            protocol: login.protocol,
            stream: login.stream,
            pending: PendingQueries::default(),
            batch: Vec::new(),
            heartbeat: Heartbeat::new(heartbeat, shared.ping_timeout, Instant::now()),
            is_behind: false,
            last_warning: None,
            timer: None,
        }
    }

    /// Ready with the cause when the connection is lost, or with `None` when the listener has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Cause>> {
        loop {
            let Some(room) = self.send_requests(cx) else { return Poll::Ready(None) };
            if room == 0 {
                // The reader wakes the task when it has taken enough.
                return Poll::Pending;
            }
            let read = self.poll_read(cx, room.min(BATCH));
            self.deliver();
            if let Some(cause) = self.pending.poll_answers(cx, &self.shared) {
                return Poll::Ready(Some(cause));
            }
            if self.pooled_process_id.zip(self.pending.process_id()).is_some_and(|(first, now)| first != now) {
                self.pooled_process_id = None;
                self.shared.report_pooler();
            }
            match read {
                Poll::Ready(Err(cause)) => return Poll::Ready(Some(cause)),
                // More has arrived, but the reader has its turn first.
                Poll::Ready(Ok(())) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => self.note_all_read(),
            }
            // A heartbeat is flushed by the next round.
            if let Some(cause) = ready!(self.poll_heartbeat(cx)) {
                return Poll::Ready(Some(cause));
            }
        }
    }

    /// Sends the commands and queries that callers have asked for. Returns the room in the queue, or `None` when the
    /// listener has ended.
    fn send_requests(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        let mut state = self.shared.lock();
        if state.end_reason.is_some() {
            return None;
        }
        register_waker(&mut state.task_waker, cx);
        let mut room = state.queue.update_room();
        if !state.receivers.is_empty() {
            room = room.min(state.receivers.update_room());
        }
        if room == 0 {
            state.note_full();
            self.is_behind = true;
            return Some(0);
        }
        let was_full = state.full_since.take().is_some();
        let (commands, done) = state.channels.take_commands();
        let user_queries = std::mem::take(&mut state.user_queries);
        drop(state);
        if was_full {
            self.heartbeat.note_resumed(Instant::now());
        }
        acknowledge(done);
        for command in commands {
            self.send(cx, command.sql(self.is_utf8), QueryKind::Channels(command));
        }
        for UserQuery { sql, reply } in user_queries {
            if reply.is_closed() {
                drop_quietly(reply);
                continue;
            }
            if sql.is_empty() {
                self.heartbeat.note_ping(Instant::now());
                self.send(cx, sql, QueryKind::Ping(reply));
            } else {
                self.send(cx, sql, QueryKind::Statement(reply));
            }
        }
        Some(room)
    }

    /// Everything that has arrived was read. The answers of the server are not behind anything.
    fn note_all_read(&mut self) {
        if std::mem::take(&mut self.is_behind) {
            self.shared.lock().behind_since = None;
        }
    }

    /// Sends a query, whose answer goes to [`PendingQueries`].
    fn send(&mut self, cx: &mut Context<'_>, sql: String, kind: QueryKind) {
        self.heartbeat.note_sent(Instant::now());
        self.pending.send(cx, &self.client, sql, kind);
    }

    /// Ends the queries that the lost connection has not answered.
    pub(super) fn fail_pending(self, cause: &Cause) {
        self.pending.fail(cause);
    }

    /// Reads until nothing more has arrived, or until there are `max` notifications.
    fn poll_read(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<(), Cause>> {
        self.stream.set_limit(max);
        let read = self.poll_protocol(cx);
        let may_be_more = self.stream.take_notifications(&mut self.batch);
        if may_be_more && read.is_pending() { Poll::Ready(Ok(())) } else { read }
    }

    /// Lets the protocol read and write.
    fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        for _ in 0..BATCH {
            match ready!(self.protocol.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    debug(format_args!("PostgreSQL: {}: {}", notice.severity(), notice.message()));
                    if matches!(notice.parsed_severity(), Some(Severity::Warning)) {
                        self.last_warning = Some((notice, self.stream.last_read()));
                    }
                }
                // Only a notification that is too long for the decoder. The ones before it come first.
                Some(Ok(AsyncMessage::Notification(long))) => {
                    self.stream.take_forwarded(&mut self.batch);
                    self.batch.push(Notification::new(long.process_id(), long.channel(), long.payload()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.cause_of_end(error))),
                None => return Poll::Ready(Err(Cause::new("the connection has ended"))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The cause of a connection that has ended with this error.
    ///
    /// A server that has crashed, or is shut down at once, says so by a warning and nothing more.
    fn cause_of_end(&mut self, error: tokio_postgres::Error) -> Cause {
        let last_read = self.stream.last_read();
        match self.last_warning.take().filter(|(_, at)| *at == last_read) {
            Some((warning, _)) if error.as_db_error().is_none() => Cause::new(EndedByWarning(warning)),
            _ => Cause::new(error),
        }
    }

    /// Moves the notifications that were read to the reader's queue, and wakes the reader once.
    fn deliver(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        let ListenerState { channels, queue, receivers, reader_waker, .. } = &mut *state;
        let mut woken = Vec::new();
        let mut batch = self.batch.drain(..).peekable();
        // Many notifications in a row are of one channel, so the answer for the previous one is reused.
        let mut known = None;
        while let Some(notification) = batch.next() {
            receivers.push_notification(&notification, &mut woken);
            let is_unwanted = known.unwrap_or_else(|| channels.is_unwanted(notification.channel()));
            known = batch.peek().filter(|next| next.channel() == notification.channel()).map(|_| is_unwanted);
            if !is_unwanted {
                queue.push_notification(notification);
            }
        }
        drop(batch);
        let reader = reader_waker.take();
        drop(state);
        reader.into_iter().chain(woken).for_each(wake);
    }

    /// Ready with a cause when the server is silent, or with `None` when a heartbeat was sent.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Option<Cause>> {
        loop {
            let now = Instant::now();
            match self.heartbeat.step(now, self.stream.last_read(), self.pending.is_statement_running()) {
                HeartbeatStep::GiveUp => return Poll::Ready(Some(Cause::Silent(self.shared.ping_timeout))),
                HeartbeatStep::Send => {
                    if self.pending.has_room_for_heartbeat() {
                        // Behind a pooler, the question tells whether the session is kept.
                        let sql = self.pooled_process_id.map_or("", |_| PROCESS_ID);
                        self.send(cx, sql.to_owned(), QueryKind::Heartbeat);
                    }
                    return Poll::Ready(None);
                }
                HeartbeatStep::Wait(None) => return Poll::Pending,
                HeartbeatStep::Wait(Some(due)) => {
                    if self.timer.as_ref().is_none_or(|(end, _)| due < *end) {
                        self.timer = Some((due, Box::pin(tokio::time::sleep_until(due))));
                    }
                    let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
                    ready!(timer.as_mut().poll(cx));
                    // The due time has come, or bytes have moved it; the next round finds out.
                    self.timer = None;
                }
            }
        }
    }

    /// Sends the message that ends a session (Terminate), if that is possible without waiting.
    pub(super) fn terminate(self) {
        let Self { client, mut protocol, stream, pending, .. } = self;
        // Without a client and its queries, the protocol ends.
        drop(client);
        pending.abandon();
        stream.stop_reading();
        let mut rounds = 0..BATCH;
        poll_once(poll_fn(|cx| {
            while rounds.next().is_some() {
                match ready!(protocol.poll_message(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                }
            }
            Poll::Ready(())
        }));
    }
}

/// The cause of a connection that has ended right after a warning of the server.
#[derive(Debug, thiserror::Error)]
#[error("the server ended the connection after a warning")]
struct EndedByWarning(#[source] DbError);

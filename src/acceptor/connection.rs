//! One connection, from its acceptance to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::guarded::{End, Guarded};
use super::io_stream::Io;
use super::seat::Seat;
use super::shared::Shared;
use super::stats::count;
use super::{Error, Event, Peer, Stream, Why};

/// How long a client that gets no further service is waited for.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs the handler of a connection.
pub(super) async fn run(io: Io, seat: Arc<Seat>) {
    let shared = Arc::clone(&seat.shared);
    let handler = &shared.settings.handler;
    let stream = Stream::new(io, &seat, handler.writes_are_answers);
    let why = match Guarded::new(|| (handler.start)(stream, seat.peer), &seat).await {
        End::Returned(Ok(())) => Why::Finished,
        End::Returned(Err(error)) => Why::Failed(Arc::new(error)),
        End::Panicked(message) => {
            shared.settings.hooks.log(&Error::HandlerPanicked { peer: seat.peer, message });
            Why::Panicked
        }
        End::Cut => Why::Cut,
    };
    seat.ended(why);
}

/// Sends away a client for whom there is no acceptor, without waiting for it here.
pub(super) fn refuse(shared: &Arc<Shared>, mut io: Io, peer: Peer) {
    count(&shared.tally.refused);
    shared.settings.hooks.tell(|| Event::Refused { peer });
    match Arc::clone(&shared.refusing).try_acquire_owned() {
        Ok(permit) => {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                let _permit = permit;
                see_off(&mut io, &shared.settings.refusal).await;
            });
        }
        // Too many at once. It is told, but whether it hears it, is not waited for.
        Err(_) => io.say_at_once(&shared.settings.refusal),
    }
}

/// Sends the last words, ends the sending side, and waits for the peer to do the same: were the socket closed with something
/// unread in it, the kernel would send a reset, which makes the peer forget what it has not read.
pub(super) async fn see_off(io: &mut (impl AsyncRead + AsyncWrite + Unpin), last_words: &[u8]) {
    let farewell = async {
        io.write_all(last_words).await?;
        io.shutdown().await?;
        let mut rest = [0; 1024];
        while io.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whatever happens, it is over then.
    let _ = timeout(FAREWELL, farewell).await;
}

//! One dial: within its time limit, with the socket options set afterwards.
//!
//! Next: [`Dial`], which makes the stream.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::panic_as_error::{PanicAsError, complete};
use crate::{Dial, SocketOptions};

/// One dial within the dial timeout, with the socket options set afterwards.
///
/// It is on the heap, like the delay: so an idle connection does not hold the memory that a dial or a timer needs.
pub(super) fn dial_and_set_up<D: Dial>(
    dialer: &mut D,
    limit: Option<Duration>,
    options: Option<SocketOptions>,
) -> Pin<Box<impl Future<Output = io::Result<D::Stream>> + Send>> {
    let dial = PanicAsError::new(async move { complete(dialer.dial()).await });
    Box::pin(async move {
        let stream = match limit {
            Some(limit) => tokio::time::timeout(limit, dial).await.unwrap_or_else(|_| {
                let text = format!("the dial took longer than {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }),
            None => dial.await,
        };
        stream.and_then(|stream| set_options(stream, options))
    })
}

/// Sets the options that the dialer has not taken. If there are any, the builder has checked that the stream is a
/// `TcpStream`.
fn set_options<S: 'static>(stream: S, options: Option<SocketOptions>) -> io::Result<S> {
    let tcp = (&stream as &dyn std::any::Any).downcast_ref::<TcpStream>();
    if let (Some(options), Some(tcp)) = (options, tcp) {
        options.apply(tcp)?;
    }
    Ok(stream)
}

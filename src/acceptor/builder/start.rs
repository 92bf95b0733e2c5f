//! The start of an acceptor: it checks the settings, listens, and spawns the accept loop.
//!
//! Next: [`crate::acceptor::accept_loop`], which runs from then on.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{AcceptorBuilder, HandlerKind};
use crate::acceptor::admission::{Admission, PeerLimit};
use crate::acceptor::alive::Alive;
#[cfg(feature = "tls")]
use crate::acceptor::alive::hold;
use crate::acceptor::capacity::Capacity;
use crate::acceptor::handshake::Handshaker;
use crate::acceptor::line::LineSettings;
#[cfg(feature = "proxy-protocol")]
use crate::acceptor::proxy_protocol::TrustedProxies;
use crate::acceptor::registry::Registry;
use crate::acceptor::service::{Handler, Service};
use crate::acceptor::settings::Settings;
#[cfg(feature = "tls")]
use crate::acceptor::tls::{TlsServer, expiry, reload::FileWatcher};
use crate::acceptor::{Acceptor, Error, accept_loop};
use crate::panics::catch;
use crate::runtime::has_time;

impl AcceptorBuilder {
    /// Listens, and starts to accept on the current runtime.
    ///
    /// It resolves a host name before it returns, which may block the thread. Use an IP address to avoid that.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidConfig`] if a setting cannot work, if no handler is set, or if the current thread is not within a tokio
    ///   runtime with I/O and time;
    /// - [`Error::Listen`] if the address cannot be listened on.
    pub fn build(self) -> Result<Acceptor, Error> {
        Capacity::check(self.acceptors, self.overflow)?;
        let first_byte_timeout = time_limit("first_byte_timeout", self.first_byte_timeout)?;
        let idle_timeout = time_limit("idle_timeout", self.idle_timeout)?;
        if self.min_rate == Some(0) {
            return Error::invalid("min_rate 0: expected at least 1 byte a second, or None");
        }
        if self.backlog == 0 {
            return Error::invalid("backlog 0: expected at least 1");
        }
        if self.max_per_peer == Some(0) {
            return Error::invalid("max_per_peer 0: expected at least 1, or None for no limit");
        }
        if self.accept_rate == Some(0) {
            return Error::invalid("accept_rate 0: expected at least 1 connection a second, or None for no limit");
        }
        if self.max_line_length == 0 {
            return Error::invalid("max_line_length 0: expected at least 1 byte");
        }
        if self.concurrent_lines == 0 {
            return Error::invalid("concurrent_lines 0: expected at least 1 line");
        }
        let handshake_timeout = time_limit("handshake_timeout", self.handshake_timeout)?;
        if self.max_handshakes == 0 {
            return Error::invalid("max_handshakes 0: expected at least 1");
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        let handler = match self.handler {
            Some(HandlerKind::Streams(start)) => Handler { start, writes_are_answers: true },
            Some(HandlerKind::Lines(start)) => {
                let settings = LineSettings {
                    max_length: self.max_line_length,
                    too_long_answer: self.too_long_answer,
                    last_without_end: self.last_line_without_end,
                    concurrent: self.concurrent_lines,
                };
                Handler { start: start(settings), writes_are_answers: false }
            }
            None => return Error::invalid("no handler: expected one by AcceptorBuilder::handler or line_handler"),
        };
        let no_runtime = || Error::InvalidConfig("no runtime: expected a tokio runtime with I/O and time".into());
        let runtime = Handle::try_current().map_err(|_| no_runtime())?;
        #[cfg(feature = "tls")]
        let (watcher, tls) = match self.tls {
            Some(tls) => {
                let watcher = FileWatcher::new(&tls);
                (Some(watcher), Some(Arc::new(TlsServer::new(tls)?)))
            }
            None => (None, None),
        };
        #[cfg_attr(
            not(any(feature = "proxy-protocol", feature = "tls")),
            expect(unused_mut, reason = "it stays without a step")
        )]
        let mut handshaker = Handshaker::new(self.max_handshakes, handshake_timeout);
        #[cfg(feature = "proxy-protocol")]
        {
            handshaker.proxies = self.proxies.as_deref().map(TrustedProxies::parse).transpose()?;
        }
        #[cfg(feature = "tls")]
        {
            handshaker.tls.clone_from(&tls);
        }
        if !has_time() {
            return Err(no_runtime());
        }
        // Tokio panics if the runtime has no I/O.
        let opened = catch(|| self.listen.open(self.backlog));
        let (listener, local_addrs) = opened.map_err(|_| no_runtime())??;
        let alive = Alive::new();
        let settings = Settings {
            acceptors: self.acceptors,
            overflow: self.overflow,
            first_byte_timeout,
            idle_timeout,
            min_rate: self.min_rate,
            hooks: self.hooks,
        };
        let registry = Registry::new(settings, &alive);
        let service = Arc::new(Service {
            handler,
            refusal: self.refusal.into(),
            refusals: Service::refusals(),
            nodelay: self.nodelay,
            admission: Admission { filter: self.filter, per_peer: self.max_per_peer.map(PeerLimit::new) },
            accept_rate: self.accept_rate,
            handshaker: handshaker.is_needed().then(|| Arc::new(handshaker)),
        });
        #[cfg(feature = "tls")]
        if let (Some(watcher), Some(tls)) = (watcher, &tls) {
            expiry::report(&registry, tls);
            let daily = expiry::report_daily(Arc::downgrade(&registry), Arc::clone(tls));
            runtime.spawn(hold(Arc::clone(&alive), daily));
            let watch = watcher.run(Arc::downgrade(&registry), Arc::clone(tls));
            runtime.spawn(hold(Arc::clone(&alive), watch));
        }
        runtime.spawn(accept_loop::run(listener, Arc::clone(&registry), service, alive));
        Ok(Acceptor {
            registry,
            local_addrs,
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

/// Rejects a limit of zero. A limit that no clock reaches is none.
fn time_limit(name: &str, limit: Option<Duration>) -> Result<Option<Duration>, Error> {
    match limit {
        Some(Duration::ZERO) => Error::invalid(format!("{name} 0ns: expected more than zero, or None for no limit")),
        _ => Ok(limit.filter(|limit| Instant::now().checked_add(*limit).is_some())),
    }
}

//! From settings to an acceptor.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{AcceptorBuilder, Serving};
use crate::acceptor::overflow::Slots;
use crate::acceptor::service::{Handler, Service};
use crate::acceptor::settings::Settings;
use crate::acceptor::shared::Shared;
#[cfg(feature = "tls")]
use crate::acceptor::tls::{Sessions, reload::Watcher};
use crate::acceptor::{Acceptor, Error, serve};
use crate::panics::catch;
use crate::runtime::has_time;

impl AcceptorBuilder {
    /// Listens, and starts to accept on the current runtime.
    ///
    /// A host name is resolved before this returns; give an IP address if that must not block.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a setting cannot work, without a handler, or outside of a tokio runtime with I/O and time;
    /// [`Error::Listen`] if the address cannot be listened on.
    pub fn build(self) -> Result<Acceptor, Error> {
        Slots::check(self.acceptors, self.overflow)?;
        let no_limit = |(name, time): (&str, Option<Duration>)| match time {
            Some(Duration::ZERO) => {
                Error::invalid(format!("{name} 0ns: expected more than zero, or None for no limit"))
            }
            // A time that no clock reaches is none.
            _ => Ok(time.filter(|limit| Instant::now().checked_add(*limit).is_some())),
        };
        let first_byte_timeout = no_limit(("first_byte_timeout", self.first_byte_timeout))?;
        let idle_timeout = no_limit(("idle_timeout", self.idle_timeout))?;
        if self.min_rate == Some(0) {
            return Error::invalid("min_rate 0: expected at least 1 byte a second, or None");
        }
        if self.backlog == 0 {
            return Error::invalid("backlog 0: expected at least 1");
        }
        if self.max_line_length == 0 {
            return Error::invalid("max_line_length 0: expected at least 1 byte");
        }
        #[cfg(feature = "tls")]
        let handshake_timeout = no_limit(("handshake_timeout", self.handshake_timeout))?;
        #[cfg(feature = "tls")]
        if self.max_handshakes == 0 {
            return Error::invalid("max_handshakes 0: expected at least 1");
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        let handler = match self.handler {
            Some(Serving::Streams(start)) => Handler { start, writes_are_answers: true },
            Some(Serving::Lines(start)) => Handler { start: start(self.max_line_length), writes_are_answers: false },
            None => return Error::invalid("no handler: expected one by AcceptorBuilder::handler or line_handler"),
        };
        let no_runtime =
            || Error::InvalidConfig("no runtime: expected to be within a tokio runtime with I/O and time".into());
        let runtime = Handle::try_current().map_err(|_| no_runtime())?;
        #[cfg(feature = "tls")]
        let (watcher, tls) = match self.tls {
            Some(tls) => {
                let watcher = Watcher::new(&tls);
                (Some(watcher), Some(Arc::new(Sessions::new(tls, self.max_handshakes, handshake_timeout)?)))
            }
            None => (None, None),
        };
        // Without I/O, it panics.
        if !has_time() {
            return Err(no_runtime());
        }
        let opened = catch(|| self.listen.open(self.backlog));
        let (listener, local_addr) = opened.map_err(|_| no_runtime())??;
        let shared = Shared::new(Settings {
            acceptors: self.acceptors,
            overflow: self.overflow,
            first_byte_timeout,
            idle_timeout,
            min_rate: self.min_rate,
            hooks: self.hooks,
        });
        let service = Arc::new(Service {
            handler,
            refusal: self.refusal,
            refusing: Service::refusing(),
            nodelay: self.nodelay,
            #[cfg(feature = "tls")]
            tls: tls.clone(),
        });
        #[cfg(feature = "tls")]
        if let (Some(watcher), Some(sessions)) = (watcher, &tls) {
            runtime.spawn(watcher.run(Arc::downgrade(&shared), Arc::clone(sessions)));
        }
        runtime.spawn(serve::serve(listener, Arc::clone(&shared), service));
        Ok(Acceptor {
            shared,
            local_addr,
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

//! The checks of the settings, and the start of a connection.
//!
//! Next: `actor.rs`, the task that is spawned here.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime;

use super::Builder;
use crate::actor::{Actor, EndGuard, FirstOutcome, Telemetry};
use crate::conn::ConnContext;
use crate::conn_state::ConnState;
use crate::link::is_type;
use crate::{Conn, Dial, Error, SocketOptions};

impl<D: Dial> Builder<D> {
    /// Checks the settings and returns at once. The actor dials in the background until a dial succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a setting is invalid, or outside of a tokio runtime.
    pub fn build(self) -> Result<Conn<D::Stream>, Error> {
        self.start(None)
    }

    /// Builds the connection and waits for the outcome of the first dial. Later, the actor redials as after
    /// [`build`](Builder::build).
    ///
    /// With several [addresses](Dial::addresses), there is one dial to each until one succeeds, without a delay between
    /// them. Each has its own [`dial_timeout`](Builder::dial_timeout).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] as for [`build`](Builder::build). [`Error::DialFailure`] if the first dial fails: there
    /// is no second one. With several addresses, if all of them fail; the text of the cause then names each address
    /// with its own cause.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future drops its dial.
    #[doc(alias("dial", "open"))]
    pub async fn connect(mut self) -> Result<Conn<D::Stream>, Error> {
        let (first_outcome, outcome) = FirstOutcome::new();
        let addresses = self.dialer.addresses().len().max(1);
        self.limits.first_dials = Some(u32::try_from(addresses).unwrap_or(u32::MAX));
        let conn = self.start(Some(first_outcome))?;
        match outcome.await {
            Ok(Ok(())) => Ok(conn.begin()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::RuntimeShutdown),
        }
    }

    /// Spawns the actor. `first_outcome` takes the outcome of the first dials.
    fn start(mut self, first_outcome: Option<FirstOutcome>) -> Result<Conn<D::Stream>, Error> {
        self.options.check()?;
        let options = self.pass_options_to_dialer()?;
        self.check()?;
        let runtime = runtime::Handle::try_current()
            .map_err(|_| Error::InvalidConfig("no runtime: expected to be built within a tokio runtime".into()))?;
        let conn_state = Arc::new(ConnState::new(self.label(), self.limits.stable_after, self.settle_time));
        let (delays, retry_if) = self.retries.into_parts();
        let actor = Actor {
            dialer: self.dialer,
            dial_limit: self.dial_limit,
            dial_timeout: self.dial_timeout,
            options,
            limits: self.limits,
            delays,
            retry_if,
            outage_log: None,
            telemetry: Telemetry::new(self.name.as_ref(), self.address.as_str()),
            hooks: self.hooks,
            _end: EndGuard::new(&conn_state),
            conn_state: Arc::clone(&conn_state),
            first_outcome,
        };
        let conn = Conn::new(ConnContext::new::<D>(
            conn_state,
            self.when_down,
            self.idle_timeout,
            self.close_as_error,
            self.job_queue_size,
            self.settle_time,
            runtime.clone(),
        ));
        runtime.spawn(actor.run());
        Ok(conn)
    }

    /// Checks every setting but the socket options. The error names the value and what was expected.
    fn check(&self) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::InvalidConfig(text));
        self.dialer.check()?;
        if self.name.as_deref() == Some("") {
            return invalid("name \"\": expected at least one character".into());
        }
        if self.dial_timeout == Some(Duration::ZERO) {
            return invalid("dial_timeout 0ns: expected more than zero, or None for no limit".into());
        }
        self.retries.check()?;
        let largest = u32::MAX as usize;
        if !(1..=largest).contains(&self.job_queue_size) {
            return invalid(format!("job_queue_size {}: expected 1 to {largest}", self.job_queue_size));
        }
        if self.idle_timeout == Some(Duration::ZERO) {
            return invalid("idle_timeout 0ns: expected more than zero, or None for no limit".into());
        }
        Ok(())
    }

    /// Passes the socket options to the dialer. Returns those that the actor has to set after each dial.
    ///
    /// That works for a dialer of `TcpStream`s only, and not for what must be set before the dial, such as a local address.
    fn pass_options_to_dialer(&mut self) -> Result<Option<Box<SocketOptions>>, Error> {
        let Some(option) = self.options.first_name() else { return Ok(None) };
        let invalid = |text: String| Err(Error::InvalidConfig(text));
        if self.dialer.take_socket_options(&self.options) {
            return Ok(None);
        }
        if !is_type::<D::Stream, TcpStream>() {
            let stream = std::any::type_name::<D::Stream>();
            return invalid(format!(
                "{option}: expected a dialer that takes socket options or makes TcpStreams, but its stream is {stream}"
            ));
        }
        match self.options.first_before_connect() {
            Some(option) => {
                invalid(format!("{option}: expected a dialer that takes socket options, such as TcpDialer"))
            }
            None => Ok(Some(Box::new(self.options))),
        }
    }
}

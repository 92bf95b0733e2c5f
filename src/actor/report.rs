//! What the program and the log get to know: each failure, each event.
//!
//! Next: [`hooks`](crate::hooks), which call the program's own functions; then [`outage_log`](super::outage_log), which thins
//! out the default log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::outage_log::Skipped;
use super::rules::ActorState;
use super::{Actor, ActorEvent};
use crate::conn_state::Command;
use crate::fault::Cause;
use crate::hooks::{info, warn};
use crate::{Dial, Error, Event};

impl<D: Dial> Actor<D> {
    /// What has failed, as the program sees it. `None` for an event that is no failure.
    pub(super) fn failure(&self, state: ActorState, event: &ActorEvent<D::Stream>) -> Option<Arc<Error>> {
        let address = &self.conn_state.address;
        match event {
            ActorEvent::DialFailed { error, .. } => {
                let (address, attempt) = (address.clone(), state.attempts());
                Some(Arc::new(Error::DialFailure { address, attempt, source: error.to_io() }))
            }
            // A clean end of the last link is no failure: the program has asked for it.
            ActorEvent::Command(Command::Redial(fault)) | ActorEvent::Broken(fault)
                if fault.is_last && matches!(fault.cause, Cause::PeerClosed) =>
            {
                None
            }
            ActorEvent::Command(Command::Redial(fault)) | ActorEvent::Broken(fault) => {
                Some(Arc::new(fault.error(fault.op, address)))
            }
            ActorEvent::Command(_) | ActorEvent::Dialed(_) | ActorEvent::DelayElapsed => None,
        }
    }

    /// Reports a break or a failed dial to the logger and the event hook, and a failed first dial to its outcome. Does
    /// nothing for other events.
    pub(super) fn report_failure(
        &mut self,
        event: ActorEvent<D::Stream>,
        failure: Option<Arc<Error>>,
        retry_in: Option<Duration>,
    ) {
        let Some(cause) = failure else { return };
        let is_loud = self.log_failure(&cause);
        match event {
            ActorEvent::DialFailed { error, .. } => {
                if let Error::DialFailure { attempt, .. } = *cause {
                    self.emit_failure(&Event::DialFailed { attempt, cause, retry_in }, is_loud);
                }
                if let Some(outcome) = &mut self.first_outcome {
                    outcome.add_failure(error);
                }
            }
            ActorEvent::Command(Command::Redial(fault)) | ActorEvent::Broken(fault) => {
                let event = Event::Disconnected {
                    generation: fault.generation,
                    cause,
                    lived: fault.lived,
                    bytes_read: fault.byte_count.read(),
                    bytes_written: fault.byte_count.written(),
                    retry_in,
                };
                self.emit_failure(&event, is_loud);
            }
            ActorEvent::Command(_) | ActorEvent::Dialed(_) | ActorEvent::DelayElapsed => {}
        }
    }

    /// Calls the logger, or writes a line of the default log. Returns whether the failure is not one of too many.
    fn log_failure(&mut self, failure: &Arc<Error>) -> bool {
        let is_dial = matches!(**failure, Error::DialFailure { .. });
        let skipped = self.outage_log.get_or_insert_default().failed(is_dial, Instant::now());
        if self.hooks.logger.is_some() {
            self.log(failure);
        } else if let Some(skipped) = skipped.filter(|_| !self.telemetry.has_subscriber()) {
            warn(format_args!("{}{}", failure.with_causes(), Skipped(skipped)));
        }
        skipped.is_some()
    }

    /// Writes a line for a link that ends an outage, if the default log has lines of that.
    pub(super) fn log_link(&mut self, generation: u64, attempt: u32) {
        let Some(skipped) = self.outage_log.as_mut().and_then(|log| log.connected()) else { return };
        if self.hooks.logger.is_none() && !self.telemetry.has_subscriber() {
            let address = &self.conn_state.address;
            info(format_args!("link {generation} to {address} is up: dial {attempt}{}", Skipped(skipped)));
        }
    }

    /// Calls the logger, whose default is a line of the log or an event of `tracing`.
    pub(super) fn log(&self, error: &Arc<Error>) {
        if self.hooks.logger.is_none() && self.telemetry.has_subscriber() {
            return self.telemetry.warn(error);
        }
        self.run_hook(|| self.hooks.log(error));
    }

    /// Calls the event hook.
    pub(super) fn emit(&mut self, event: &Event) {
        self.emit_failure(event, true);
    }

    /// The same for a failure. If it is not `loud`, it is one of many.
    fn emit_failure(&mut self, event: &Event, is_loud: bool) {
        self.telemetry.observe(&self.conn_state.address, event, is_loud);
        self.run_hook(|| self.hooks.emit(|| event));
    }

    /// Calls the event hook for the last time. A close waits for that, and for the drop of the hook.
    pub(super) fn emit_closed(&mut self) {
        self.telemetry.observe(&self.conn_state.address, &Event::Closed, true);
        self.hooks.emit(|| &Event::Closed);
    }

    /// Runs a hook of the program, which can take any time. A close does not wait for it.
    pub(super) fn run_hook(&self, hook: impl FnOnce()) {
        self.conn_state.actor_runs_hook();
        hook();
        self.conn_state.actor_is_back();
    }
}

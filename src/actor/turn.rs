//! The wait for a [`DialLimit`](crate::DialLimit), which comes before a dial and is no part of it.
//!
//! Next: `dial_limit/queue.rs`, where the connection waits.

use super::rules::ActorState;
use super::{Actor, ActorEvent, until_command};
use crate::dial::Dial;
use crate::dial_limit::DialPermit;

impl<D: Dial> Actor<D> {
    /// Waits until the limit lets this dial begin; `None`: there is no limit. A command that changes the state ends the wait, and is
    /// the error.
    ///
    /// A wish to dial changes nothing: the delay is over, and others wait as well.
    pub(super) async fn wait_for_turn(
        &mut self,
        state: ActorState,
    ) -> Result<Option<DialPermit>, ActorEvent<D::Stream>> {
        let Some(limit) = &self.dial_limit else { return Ok(None) };
        let turn = Box::pin(limit.turn(&self.conn_state.address));
        match until_command(&self.conn_state, state, &self.limits, turn, drop).await {
            Ok(event) => Err(event),
            Err(permit) => Ok(Some(permit)),
        }
    }
}

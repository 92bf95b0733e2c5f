//! The limit that a connection shares with others.
//!
//! Next: [`DialLimit`].

use super::Builder;
use crate::DialLimit;

impl<D> Builder<D> {
    /// Shares a limit of dials with other connections: each dial waits for its turn.
    ///
    /// Defaults to none. The limit counts the first dial, too. See [`DialLimit`], which has the example.
    #[doc(alias("rate_limit", "throttle", "concurrency", "thundering_herd"))]
    pub fn dial_limit(mut self, limit: &DialLimit) -> Self {
        self.dial_limit = Some(limit.clone());
        self
    }
}

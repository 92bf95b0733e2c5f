//! Whether and when another dial follows a failure: what the error says, and then what the program says.
//!
//! Next: [`Retry`], the answer; then [`rules`](super::rules), which stop on a final one.

use std::sync::Arc;

use crate::hooks::Hooks;
use crate::panics::catch;
use crate::{Error, Event, Retry};

/// The function of [`Builder::retry_if`](crate::Builder::retry_if).
pub(crate) type RetryIf = Box<dyn FnMut(&Error, u32) -> Retry + Send>;

/// Asks the program about this failure of the dial or link with this number. Without a function, the backoff follows.
///
/// So it does after a panic, which the logger gets.
pub(super) fn ask(retry_if: &mut Option<RetryIf>, hooks: &Hooks<Error, Event>, error: &Error, attempt: u32) -> Retry {
    let Some(retry_if) = retry_if else { return Retry::Backoff };
    catch(|| retry_if(error, attempt)).unwrap_or_else(|message| {
        hooks.log(&Arc::new(Error::HookPanicked { hook: "retry_if", message }));
        Retry::Backoff
    })
}

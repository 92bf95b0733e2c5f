//! Poolers: whether one is between, and whether it keeps one session of the server for each client.
//!
//! A pooler names a process id of its own in the login. That alone says nothing: one in session mode keeps the `LISTEN` of a
//! client. One in transaction mode takes the server's session back after each transaction, and gives it to the next client
//! that asks. So a second client asks which process serves it: if it is the process of the first one, which is still there,
//! the session is not kept.
//!
//! Next: [`LoginDialer`](super::login_dialer::LoginDialer), which asks as part of a dial.

use std::time::Duration;

use tokio::time::timeout;

use super::attempt_config::LoginConfig;
use super::hosts::Host;
use super::login::{BoxError, Login};

/// How long the second client may take. A pooler in session mode may have no session left for it, and then it would wait.
const LIMIT: Duration = Duration::from_secs(1);

/// Whether the pooler keeps the session of this login, as far as that can be found out. The session was served by this process.
pub(super) async fn is_session_kept(
    host: &mut Host,
    config: &LoginConfig,
    login: &mut Login,
    process_id: i32,
) -> Result<bool, BoxError> {
    let second = async { host.log_in(config).await?.process_id().await };
    // What happens to the second client says nothing about the first.
    let second = timeout(LIMIT, second).await.unwrap_or(Ok(None)).unwrap_or(None);
    if second == Some(process_id) {
        return Ok(false);
    }
    // Somebody else may have taken the session meanwhile.
    Ok(login.process_id().await?.is_none_or(|now| now == process_id))
}

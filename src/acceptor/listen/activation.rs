//! The sockets that a service manager has opened (sd_listen_fds(3)).
//!
//! Next: [`super::Listen`], which they become.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::{Domain, SockRef};

use super::{Error, Listen};

/// The first descriptor of them, `SD_LISTEN_FDS_START`.
const FIRST_FD: i32 = 3;

/// The highest number to accept in either variable: Linux has no higher process ID (`PID_MAX_LIMIT`), and no process
/// has more descriptors to pass on.
const MAX_NUMBER: i32 = 1 << 22;

/// All of them, in the order of their numbers.
pub(super) fn listeners() -> Result<Vec<Listen>, Error> {
    let number = |name: &str| -> Result<i32, Error> {
        let value = std::env::var_os(name)
            .ok_or_else(|| Error::InvalidConfig(format!("{name} is not set: expected it from a service manager")))?;
        let number =
            value.to_str().and_then(|value| value.parse().ok()).filter(|number| (0..=MAX_NUMBER).contains(number));
        number.ok_or_else(|| Error::InvalidConfig(format!("{name} {value:?}: expected a number")))
    };
    let (pid, count) = (number("LISTEN_PID")?, number("LISTEN_FDS")?);
    let own = getpid().as_raw_pid();
    if pid != own {
        return Error::invalid(format!("LISTEN_PID {pid}: expected {own}, this process"));
    }
    (FIRST_FD..FIRST_FD + count).map(listener).collect()
}

/// Duplicates one descriptor.
///
/// Safe code must not take over a descriptor by its number, as another part of the program may own it. So it is
/// duplicated as if it belonged to another process, and the original is left alone.
fn listener(number: i32) -> Result<Listen, Error> {
    let name = || format!("descriptor {number}");
    let failed = |source| Error::Listen { address: name(), source };
    let duplicate = || -> rustix::io::Result<OwnedFd> {
        let this_process = pidfd_open(getpid(), PidfdFlags::empty())?;
        pidfd_getfd(this_process, number, PidfdGetfdFlags::empty())
    };
    let descriptor = duplicate().map_err(|error| failed(error.into()))?;
    let domain = SockRef::from(&descriptor).domain().map_err(failed)?;
    super::check_listens(SockRef::from(&descriptor), &name())?;
    match domain {
        Domain::IPV4 | Domain::IPV6 => Ok(TcpListener::from(descriptor).into()),
        Domain::UNIX => Ok(UnixListener::from(descriptor).into()),
        _ => Error::invalid(format!("{}: expected a TCP or Unix socket", name())),
    }
}

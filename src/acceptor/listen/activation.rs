//! Sockets that a service manager has opened (sd_listen_fds(3)).

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::{Domain, SockRef};

use super::{Error, Listen};

/// The first of them.
const FIRST: i32 = 3;

/// More than any process has.
const MOST: i32 = 1 << 20;

pub(super) fn listeners() -> Result<Vec<Listen>, Error> {
    let number = |name: &str| -> Result<i32, Error> {
        let value = std::env::var_os(name)
            .ok_or_else(|| Error::InvalidConfig(format!("{name} is not set: expected it from a service manager")))?;
        let number = value.to_str().and_then(|value| value.parse().ok()).filter(|number| (0..=MOST).contains(number));
        number.ok_or_else(|| Error::InvalidConfig(format!("{name} {value:?}: expected a number")))
    };
    let (pid, count) = (number("LISTEN_PID")?, number("LISTEN_FDS")?);
    let own = getpid().as_raw_pid();
    if pid != own {
        return Error::invalid(format!("LISTEN_PID {pid}: expected {own}, this process"));
    }
    (FIRST..FIRST + count).map(listener).collect()
}

/// A descriptor by its bare number is nothing that safe code may take over: another part of the program may have it. So it is
/// duplicated, as that of another process would be, and the original stays what it was.
fn listener(number: i32) -> Result<Listen, Error> {
    let name = || format!("descriptor {number}");
    let wrong = |source| Error::Listen { address: name(), source };
    let duplicate = || -> rustix::io::Result<OwnedFd> {
        let this_process = pidfd_open(getpid(), PidfdFlags::empty())?;
        pidfd_getfd(this_process, number, PidfdGetfdFlags::empty())
    };
    let descriptor = duplicate().map_err(|error| wrong(error.into()))?;
    let domain = SockRef::from(&descriptor).domain().map_err(wrong)?;
    super::check_listens(SockRef::from(&descriptor), &name())?;
    match domain {
        Domain::IPV4 | Domain::IPV6 => Ok(TcpListener::from(descriptor).into()),
        Domain::UNIX => Ok(UnixListener::from(descriptor).into()),
        _ => Error::invalid(format!("{}: expected a socket of TCP or of the Unix domain", name())),
    }
}

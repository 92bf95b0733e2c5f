//! The sockets that a service manager has opened (sd_listen_fds(3)).
//!
//! The crate sd-notify checks that the descriptors are for this process and marks them close-on-exec. Safe code must not
//! take over a descriptor by its number, as another part of the program may own it. So each socket is duplicated: it is sent
//! through a socket pair (`SCM_RIGHTS`), which every sandbox of a server allows, as it has to send and receive
//! (`RestrictAddressFamilies` of systemd does not concern socketpair(2)). The original stays open.
//!
//! Next: [`variables`], which say what there is, and [`super::Listen`], which the sockets become.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use socket2::{Domain, SockRef};

use super::{Error, Listen};

mod variables;

/// All of them, in the order of their numbers, with their names.
pub(super) fn listeners() -> Result<Vec<Listen>, Error> {
    let names = variables::names(std::process::id(), |name| std::env::var_os(name)).map_err(Error::InvalidConfig)?;
    let count = names.len();
    let numbers = sd_notify::listen_fds()
        .map_err(|source| Error::Listen { address: format!("the {count} descriptors of LISTEN_FDS"), source })?;
    numbers.zip(names).map(|(number, name)| listener(number, name)).collect()
}

/// Duplicates one descriptor.
fn listener(number: RawFd, name: Option<String>) -> Result<Listen, Error> {
    let address = match &name {
        Some(name) => format!("descriptor {number} ({name:?})"),
        None => format!("descriptor {number}"),
    };
    let failed = |source| Error::Listen { address: address.clone(), source };
    let descriptor = duplicate(number).map_err(failed)?;
    let socket = SockRef::from(&descriptor);
    let domain = socket.domain().map_err(|error| Error::InvalidConfig(format!("{address}: not a socket: {error}")))?;
    super::check_socket(socket, &address)?;
    let listen: Listen = match domain {
        Domain::IPV4 | Domain::IPV6 => TcpListener::from(descriptor).into(),
        Domain::UNIX => UnixListener::from(descriptor).into(),
        _ => return Error::invalid(format!("{address}: expected a TCP or Unix socket")),
    };
    Ok(Listen { name, ..listen })
}

/// Another descriptor of the same socket, close-on-exec.
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let (sender, receiver) = UnixStream::pair()?;
    let rights = [number];
    let message = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(sender.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), None)?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut received = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&receiver, &mut [IoSliceMut::new(&mut byte)], &mut received, RecvFlags::CMSG_CLOEXEC)?;
    let duplicate = received.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    // The kernel leaves it out if the process has no descriptor free.
    duplicate.ok_or_else(|| io::Error::from(rustix::io::Errno::MFILE))
}

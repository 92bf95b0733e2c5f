//! Sockets of the Unix domain, which are files as well.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

#[cfg(target_os = "linux")]
mod lock;

/// The file of a listener. It has to be dropped before the listener: once nobody listens, others may put theirs in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another in its place nevertheless.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

pub(super) fn bind(path: &Path, backlog: u32) -> io::Result<(UnixListener, SocketFile)> {
    // The program may be in another folder when the file is to be removed. (To listen, it is used as it was given: the
    // kernel takes short ones only.)
    let file = std::path::absolute(path)?;
    // Between its bind and its listen, a socket looks like one that was left behind.
    #[cfg(target_os = "linux")]
    let _lock = file.parent().map(lock::Lock::wait);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path, &address) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        outcome => outcome?,
    }
    let identity = identity(&file);
    let file = SocketFile { path: file, identity };
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok((socket.into(), file))
}

/// Whether it is a socket that nobody listens on: one of a process that was killed.
fn is_left_over(path: &Path, address: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    // If the queue of one who listens is full, this must not wait.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(address)
    };
    is_socket && connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

//! Sockets of the Unix domain, and their files.
//!
//! Next: [`super::listener`], which owns the file of a listener.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

mod lock;

/// The file of a listener, which is removed on drop.
///
/// Drop it before the listener: once the listener is closed, another process may put its own file in this place.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute.
    path: PathBuf,
    /// Device and inode; `None` if the file could not be looked at.
    identity: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have replaced it nevertheless.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who may connect: the access rights of a socket's file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Access {
    /// The permission bits. `None` for what the umask of the process leaves.
    pub(super) mode: Option<u32>,
    /// The user. `None` for that of the process.
    pub(super) uid: Option<u32>,
    /// The group. `None` for that of the process, or of the folder.
    pub(super) gid: Option<u32>,
}

impl Access {
    /// Changes the rights of a file.
    fn apply(self, path: &Path) -> io::Result<()> {
        if self.uid.is_some() || self.gid.is_some() {
            // A process without privileges cannot give a file away, so that the mode comes last.
            std::os::unix::fs::lchown(path, self.uid, self.gid)?;
        }
        match self.mode {
            Some(mode) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }
}

/// Tells a file from another one at the same path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Listens at a path. A stale socket file is replaced. It may block for up to a second, for the lock of the folder.
pub(super) fn bind(path: &Path, access: Access, backlog: u32) -> io::Result<(UnixListener, SocketFile)> {
    // The program may have changed its folder by the time the file is to be removed. The bind takes the path as it was given,
    // because the kernel takes short paths only.
    let file = std::path::absolute(path)?;
    // A socket that is bound and does not listen yet looks like a stale one.
    let _lock = file.parent().map(lock::FolderLock::acquire);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path, &address) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        outcome => outcome?,
    }
    let identity = identity(&file);
    let file = SocketFile { path: file, identity };
    // Nobody can connect yet.
    access.apply(&file.path)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok((socket.into(), file))
}

/// Whether the path is a socket that no process listens on, as a killed process leaves it.
fn is_stale(path: &Path, address: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    // A blocking connect would wait for a listener whose queue is full.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(address)
    };
    is_socket && connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

//! The lock of a folder, so that only one process at a time replaces a socket file in it.
//!
//! Next: [`super::bind`], which holds it.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long to wait for the lock. An acceptor holds it for a few system calls only.
const TIMEOUT: Duration = Duration::from_secs(1);

/// An advisory lock of a folder (flock(2)). It leaves no file behind, and ends with its descriptor.
pub(super) struct FolderLock {
    /// Its descriptor holds the lock; `None` if the folder cannot be opened.
    _folder: Option<File>,
}

impl FolderLock {
    /// Waits for the lock, and goes on without it after the timeout.
    ///
    /// A folder that the process may write to and not read cannot be locked, and another program may hold the lock
    /// for good.
    pub(super) fn acquire(folder: &Path) -> Self {
        let folder = File::open(folder).ok();
        let start = Instant::now();
        if let Some(folder) = &folder {
            let is_taken = || flock(folder, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
            while is_taken() && start.elapsed() < TIMEOUT {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Self { _folder: folder }
    }
}

//! One at a time in a folder.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Whoever has it for our reasons does no more than a few system calls meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// An advisory lock of a folder (flock(2)), which leaves no file behind. It ends with its descriptor.
pub(super) struct Lock {
    _folder: Option<File>,
}

impl Lock {
    /// Waits for it, but does not insist: a folder that may be written to but not read cannot be locked, and a stranger may
    /// have locked it for good.
    pub(super) fn wait(folder: &Path) -> Self {
        let folder = File::open(folder).ok();
        let begun = Instant::now();
        if let Some(folder) = &folder {
            let is_taken = || flock(folder, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
            while is_taken() && begun.elapsed() < LONGEST {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Self { _folder: folder }
    }
}

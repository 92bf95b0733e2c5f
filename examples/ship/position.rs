//! The position in a followed file, kept on disk over restarts of the program.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::Path;

/// Which file it is, whatever its name is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    #[cfg(unix)]
    pub(crate) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Its time of creation: the number of a file on other systems is not in std.
    #[cfg(not(unix))]
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let created = metadata.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Self { device: 0, inode: created.map_or(0, |time| time.as_nanos() as u64) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) id: FileId,
    /// Where the first line begins that has not arrived.
    pub(crate) offset: u64,
}

impl Position {
    /// `None` if there is no such file.
    pub(crate) fn load(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [device, inode, offset] = numbers[..] else {
            let expected = format!("{}: expected a device, an inode and an offset, found {text:?}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, expected));
        };
        Ok(Some(Self { id: FileId { device, inode }, offset }))
    }

    /// Replaces the file as a whole, so that a crash leaves the old position or the new one.
    pub(crate) fn save(self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{} {} {}", self.id.device, self.id.inode, self.offset)?;
        file.sync_all()?;
        fs::rename(new, path)
    }
}

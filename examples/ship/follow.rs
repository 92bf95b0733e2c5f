//! A file that grows, is rotated and truncated: read from where the last run has left it.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::lines::Lines;
use crate::position::{FileId, Position};

/// How long a look at a file that has not grown comes after the last one.
const POLL: Duration = Duration::from_millis(250);

pub(crate) struct Follow {
    path: PathBuf,
    /// End at the end of the file that has the name then.
    once: bool,
    /// The file that is being read; `None` while there is none.
    file: Option<File>,
    id: FileId,
    lines: Lines,
    /// Where the next line begins.
    offset: u64,
}

impl Follow {
    /// Begins at `position`, also if the file was renamed since. Without one, or if that file is gone, at the beginning.
    pub(crate) async fn start(path: PathBuf, position: Option<Position>, once: bool) -> io::Result<Self> {
        let mut follow = Self { path, once, file: None, id: FileId::default(), lines: Lines::default(), offset: 0 };
        if let Some(position) = position {
            if let Some(path) = find(&follow.path, position.id).await? {
                follow.open(&path, position.offset).await?;
            }
        }
        if follow.file.is_none() {
            let path = follow.path.clone();
            follow.open(&path, 0).await?;
        }
        Ok(follow)
    }

    /// The next line, and the position behind it. `None` at the end, with `once`.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Bytes, Position)>> {
        loop {
            if let Some((line, taken)) = self.lines.next() {
                return Ok(Some(self.account(line, taken)));
            }
            let Some(file) = &mut self.file else {
                // Between two steps of a rotation there may be no file.
                tokio::time::sleep(POLL).await;
                self.open_the_present_one().await?;
                continue;
            };
            if file.read_buf(self.lines.buffer()).await? > 0 {
                continue;
            }
            if self.once && self.is_last().await {
                let rest = self.lines.rest();
                return Ok(rest.map(|(line, taken)| self.account(line, taken)));
            }
            if let Some(last) = self.turn().await? {
                return Ok(Some(last));
            }
        }
    }

    fn account(&mut self, line: Bytes, taken: usize) -> (Bytes, Position) {
        self.offset += taken as u64;
        (line, Position { id: self.id, offset: self.offset })
    }

    /// At the end of the file: waits, unless it was truncated or another one has taken its place. Then that is next, and what is
    /// left of this one is its last line.
    async fn turn(&mut self) -> io::Result<Option<(Bytes, Position)>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        if file.metadata().await?.len() < self.offset + self.lines.len() as u64 {
            // Truncated: the rest of a line will not come.
            file.seek(SeekFrom::Start(0)).await?;
            self.lines = Lines::default();
            self.offset = 0;
            return Ok(None);
        }
        match fs::metadata(&self.path).await {
            Ok(present) if FileId::of(&present) == self.id => tokio::time::sleep(POLL).await,
            // Renamed. The writer may still have it open: one last look comes before the next file.
            outcome => {
                let is_there = outcome.is_ok();
                tokio::time::sleep(POLL).await;
                if file.read_buf(self.lines.buffer()).await? == 0 && is_there {
                    let last = self.lines.rest().map(|(line, taken)| self.account(line, taken));
                    self.open_the_present_one().await?;
                    return Ok(last);
                }
            }
        }
        Ok(None)
    }

    /// Whether no other file has taken the name of the one that is being read.
    async fn is_last(&self) -> bool {
        fs::metadata(&self.path).await.map_or(true, |present| FileId::of(&present) == self.id)
    }

    async fn open_the_present_one(&mut self) -> io::Result<()> {
        let path = self.path.clone();
        match self.open(&path, 0).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.file = None;
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// A file that has become shorter than `offset` is read from its beginning.
    async fn open(&mut self, path: &Path, offset: u64) -> io::Result<()> {
        let mut file = File::open(path).await?;
        let metadata = file.metadata().await?;
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder: expected a file"));
        }
        self.offset = if metadata.len() < offset { 0 } else { offset };
        self.id = FileId::of(&metadata);
        file.seek(SeekFrom::Start(self.offset)).await?;
        self.file = Some(file);
        Ok(())
    }
}

/// The file with this identity: the one that is followed, or one beside it, as a rotation renames files within their folder.
async fn find(path: &Path, id: FileId) -> io::Result<Option<PathBuf>> {
    if fs::metadata(path).await.is_ok_and(|metadata| FileId::of(&metadata) == id) {
        return Ok(Some(path.to_owned()));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut entries = fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        if entry.metadata().await.is_ok_and(|metadata| metadata.is_file() && FileId::of(&metadata) == id) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

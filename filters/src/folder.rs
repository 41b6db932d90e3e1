//! The folder in which the files that a configuration names are sought, and the list of those read.
//!
//! Every file of a configuration is read through a [`Folder`], which notes it as it was found. So whoever
//! watches for changes looks at what was read, and not at a second list that somebody forgot to extend.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// How old a change must be before its time stamp can be told from that of a later change: coarse clocks
/// of file systems (FAT, NFS) count in steps of up to two seconds.
const COARSEST: Duration = Duration::from_secs(3);

/// Whether what a file holds may be told by a hash of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Anybody may know it.
    Plain,
    /// A hash of it would let a short secret be guessed.
    Secret,
}

/// A folder, and what was read in it. Clones share the list.
#[derive(Clone)]
pub struct Folder {
    path: Arc<Path>,
    read: Arc<Mutex<BTreeMap<Box<Path>, Seen>>>,
}

/// A file as it was found.
#[derive(Clone)]
pub struct Seen {
    found: Result<Found, io::ErrorKind>,
    limit: usize,
    content: Content,
}

#[derive(Clone, PartialEq, Eq)]
struct Found {
    stamp: Stamp,
    digest: [u8; 32],
}

/// What a file system tells of a file without reading it.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// The next change might bear the same times.
    is_young: bool,
}

impl Folder {
    /// A folder in which nothing was read so far.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), read: Arc::default() }
    }

    /// Where a name leads, for messages and for files that are written.
    pub fn path_of(&self, name: &Path) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a file, and at most one byte more than `limit` of it: the caller sees that it is too long.
    /// Whether that goes well or not, the file is noted.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn read(&self, name: &Path, limit: usize, content: Content) -> io::Result<Vec<u8>> {
        let path = self.path_of(name);
        let read = read(&path, limit);
        let found = match &read {
            Ok((bytes, stamp)) => Ok(Found { stamp: stamp.clone(), digest: Sha256::digest(bytes).into() }),
            Err(error) => Err(error.kind()),
        };
        self.read.lock().insert(path.into(), Seen { found, limit, content });
        read.map(|(bytes, _)| bytes)
    }

    /// The files that were asked for so far, whether they were there or not.
    pub fn files(&self) -> BTreeMap<Box<Path>, Seen> {
        self.read.lock().clone()
    }
}

impl From<&Path> for Folder {
    fn from(path: &Path) -> Self {
        Self::new(path)
    }
}

/// The path alone: what was read is nobody's business.
impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Folder").field(&self.path).finish()
    }
}

impl Seen {
    /// The SHA-256 of what was read; `None` for a secret, and for a file that could not be read.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let found = self.found.as_ref().ok().filter(|_| self.content == Content::Plain)?;
        Some(found.digest)
    }

    /// Whether both hold the same, or both could not be read for the same reason.
    pub fn holds_what(&self, other: &Self) -> bool {
        match (&self.found, &other.found) {
            (Ok(one), Ok(other)) => one.digest == other.digest,
            (Err(one), Err(other)) => one == other,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        }
    }

    /// Looks at the file again, reading it only if its size or its times leave room for a change.
    pub fn look_again(&self, path: &Path) -> Self {
        if let Ok(found) = &self.found
            && !found.stamp.is_young
            && std::fs::metadata(path).is_ok_and(|now| Stamp::new(&now) == found.stamp)
        {
            return self.clone();
        }
        let found = read(path, self.limit)
            .map(|(bytes, stamp)| Found { stamp, digest: Sha256::digest(bytes).into() })
            .map_err(|error| error.kind());
        Self { found, ..*self }
    }
}

/// The stamp is taken before the first byte: what is written while we read makes it differ later.
fn read(path: &Path, limit: usize) -> io::Result<(Vec<u8>, Stamp)> {
    let file = File::open(path)?;
    let stamp = Stamp::new(&file.metadata()?);
    let mut bytes = Vec::with_capacity(usize::try_from(stamp.len).unwrap_or(0).min(limit) + 1);
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, stamp))
}

impl Stamp {
    fn new(meta: &Metadata) -> Self {
        let changed = u64::try_from(meta.mtime().max(meta.ctime())).unwrap_or(0);
        let settled = SystemTime::UNIX_EPOCH + Duration::from_secs(changed) + COARSEST;
        Self {
            file: (meta.dev(), meta.ino()),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            is_young: SystemTime::now() < settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of the test's own, which goes with it.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("imgate-folder-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).unwrap();
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn read_one(dir: &Temporary, name: &str) -> (Box<Path>, Seen) {
        let folder = Folder::new(&dir.0);
        let _ = folder.read(Path::new(name), 100, Content::Plain);
        folder.files().into_iter().next().unwrap()
    }

    #[test]
    fn a_change_of_the_same_length_at_the_same_time_is_seen() {
        let dir = Temporary::new("same");
        dir.write("a", "one");
        let (path, seen) = read_one(&dir, "a");
        assert!(seen.holds_what(&seen.look_again(&path)));
        let times = std::fs::metadata(&path).unwrap();
        dir.write("a", "two");
        let file = File::options().write(true).open(&path).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(times.modified().unwrap())).unwrap();
        assert!(!seen.holds_what(&seen.look_again(&path)));
        // Written again as it was, it is what it was.
        dir.write("a", "one");
        assert!(seen.holds_what(&seen.look_again(&path)));
    }

    #[test]
    fn a_file_that_comes_or_goes_is_a_change() {
        let dir = Temporary::new("comes");
        let (path, missing) = read_one(&dir, "a");
        assert!(missing.holds_what(&missing.look_again(&path)) && missing.digest().is_none());
        dir.write("a", "one");
        let found = missing.look_again(&path);
        assert!(!missing.holds_what(&found) && found.digest().is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(!found.holds_what(&found.look_again(&path)));
    }

    #[test]
    fn a_file_is_noted_whether_it_could_be_read_or_not_and_no_hash_tells_a_secret() {
        let dir = Temporary::new("noted");
        dir.write("secret", "hunter2");
        let folder = Folder::new(&dir.0);
        assert_eq!(folder.read(Path::new("secret"), 100, Content::Secret).unwrap(), b"hunter2");
        assert_eq!(folder.read(Path::new("secret"), 3, Content::Secret).unwrap(), b"hunt");
        assert!(folder.read(Path::new("away"), 100, Content::Plain).is_err());
        let files = folder.files();
        let names: Vec<_> = files.keys().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["away", "secret"]);
        assert!(files.values().all(|seen| seen.digest().is_none()));
        assert!(!format!("{folder:?}").contains("secret"));
    }
}

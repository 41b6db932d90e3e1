//! Notices when a file of the configuration changes.
//!
//! It looks at the files once a second, which is a `stat` for each. Being told by inotify would be faster
//! and cheaper by nothing that matters, and would miss changes on NFS, FUSE and overlays, and between a
//! rename and the next watch. Written in place, renamed over, swapped behind a link, taken away and put
//! back: each is a file that is not what was read. A change is reported once it has come to rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use imgate_filters::folder::Seen;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// How long they must stay as they are before a change counts as finished.
const REST: Duration = Duration::from_millis(200);

/// How often that is tried: whoever writes on and on is not waited for.
const MAX_RESTS: usize = 25;

type Files = BTreeMap<Box<Path>, Seen>;

/// Looks at the files of a configuration.
pub(super) struct Watch {
    files: Files,
    /// A look that is under way. It outlives a `changed` that is dropped, so that a file system that hangs
    /// holds up one thread and not one for each attempt.
    looking: Option<JoinHandle<Files>>,
    tasks: TaskTracker,
}

impl Watch {
    /// Watches these files as they were read; looks are tasks of `tasks`.
    pub(super) fn new(files: Files, tasks: TaskTracker) -> Self {
        Self { files, looking: None, tasks }
    }

    /// Watches these files from now on.
    pub(super) fn follow(&mut self, files: Files) {
        self.files = files;
        self.looking = None;
    }

    /// Waits until a file holds something else than what was read, and all have come to rest. May be
    /// dropped and called again: a change that was seen is seen again, until [`Watch::follow`].
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            let now = self.look(&self.files.clone()).await;
            if !is_same(&self.files, &now) {
                return self.come_to_rest(now).await;
            }
            // Their stamps may be older by now, and need no second look.
            self.files = now;
        }
    }

    async fn come_to_rest(&mut self, mut last: Files) {
        for _ in 0..MAX_RESTS {
            tokio::time::sleep(REST).await;
            let now = self.look(&last).await;
            if is_same(&last, &now) {
                return;
            }
            last = now;
        }
    }

    async fn look(&mut self, files: &Files) -> Files {
        let looking = self.looking.get_or_insert_with(|| {
            let files = files.clone();
            self.tasks.spawn_blocking(move || {
                files.into_iter().map(|(path, seen)| (path.clone(), seen.look_again(&path))).collect()
            })
        });
        let seen = looking.await;
        self.looking = None;
        // It fails only when the runtime ends, or with a bug of ours; neither is a change of a file.
        seen.unwrap_or_else(|_| files.clone())
    }
}

fn is_same(one: &Files, other: &Files) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|((_, one), (_, other))| one.holds_what(other))
}

//! Something read from files and read anew when they change; a broken change is reported and the
//! last good state stays in use.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

type Load<T, E> = Box<dyn Fn() -> Result<T, E> + Send + Sync>;

/// What the files `paths` hold, as `load` reads them.
pub(crate) struct Reloaded<T, E> {
    paths: Vec<PathBuf>,
    load: Load<T, E>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<Stamp>>,
    value: Arc<T>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    /// Number of the file, which is another one after a rename.
    node: u64,
}

impl<T, E: fmt::Display> Reloaded<T, E> {
    /// Reads for the first time.
    pub(crate) fn start(
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let stamps = stamps(&paths);
        let value = Arc::new(load()?);
        Ok(Self {
            paths,
            load: Box::new(load),
            state: Mutex::new(State { stamps, value }),
        })
    }

    /// The state of the files when they were last looked at.
    pub(crate) fn latest(&self) -> Arc<T> {
        lock(&self.state).value.clone()
    }

    /// The state of the files now, or the last good one.
    pub(crate) fn current(&self) -> Arc<T> {
        let now = stamps(&self.paths);
        let mut state = lock(&self.state);
        if state.stamps != now {
            // Noted before the outcome is known: one broken change is reported once.
            state.stamps = now;
            match (self.load)() {
                Ok(value) => {
                    tracing::info!(files = ?self.paths, "read anew");
                    state.value = Arc::new(value);
                }
                Err(error) => {
                    tracing::error!(%error, "a changed file cannot be used: what it held before stays in force");
                }
            }
        }
        state.value.clone()
    }
}

impl<T, E> fmt::Debug for Reloaded<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloaded").field(&self.paths).finish()
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let node = std::os::unix::fs::MetadataExt::ino(&found);
        #[cfg(not(unix))]
        let node = 0;
        Some(Stamp {
            modified: found.modified().ok(),
            len: found.len(),
            node,
        })
    };
    paths.iter().map(stamp).collect()
}

/// A lock that outlives a panic elsewhere: what it guards is never left half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_changed_file_is_read_anew_and_a_broken_one_changes_nothing() {
        let folder = Folder::new();
        let path = folder.path("number");
        fs::write(&path, "1").unwrap();
        let read = {
            let path = path.clone();
            move || fs::read_to_string(&path).unwrap_or_default().parse::<u32>()
        };
        let number = Reloaded::start(vec![path.clone()], read).unwrap();
        assert_eq!(*number.current(), 1);
        fs::write(&path, "22").unwrap();
        assert_eq!(*number.current(), 22);
        fs::write(&path, "broken").unwrap();
        assert_eq!(*number.current(), 22);
        fs::remove_file(&path).unwrap();
        assert_eq!(*number.current(), 22);
        fs::write(&path, "333").unwrap();
        assert_eq!(*number.current(), 333);
    }

    #[test]
    fn a_file_replaced_by_one_of_the_same_length_is_noticed() {
        let folder = Folder::new();
        let (path, next) = (folder.path("a"), folder.path("b"));
        fs::write(&path, "1").unwrap();
        fs::write(&next, "2").unwrap();
        let read = {
            let path = path.clone();
            move || fs::read_to_string(&path)
        };
        let text = Reloaded::start(vec![path.clone()], read).unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!(*text.current(), "2");
    }
}

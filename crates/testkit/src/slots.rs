//! At most a few servers at a time on one machine, whatever number of tests run.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::program::shared_folder;

/// How many servers may run at a time.
const SLOTS: usize = 6;
const DEADLINE: Duration = Duration::from_secs(900);

/// Permission to run servers, until dropped. The kernel takes it back from a killed test.
#[derive(Debug)]
pub struct Slots {
    _held: Vec<File>,
}

impl Slots {
    /// Waits for `count` slots at once. A test that holds some must not ask for more: two such tests would wait for
    /// each other.
    pub async fn take(count: usize) -> Self {
        assert!(count <= SLOTS, "at most {SLOTS} servers in one test");
        let folder = shared_folder().join("slots");
        std::fs::create_dir_all(&folder).expect("create the slots' folder");
        let begin = Instant::now();
        let queue = open(&folder.join("queue"));
        wait(begin, || queue.try_lock().ok()).await;
        let held = wait(begin, || free(&folder, count)).await;
        Self { _held: held }
    }
}

/// Locks `count` free slots, or none.
fn free(folder: &Path, count: usize) -> Option<Vec<File>> {
    let slots = (0..SLOTS).map(|slot| open(&folder.join(format!("slot-{slot}"))));
    let held: Vec<_> = slots.filter(|slot| slot.try_lock().is_ok()).take(count).collect();
    (held.len() == count).then_some(held)
}

fn open(path: &Path) -> File {
    File::options().create(true).truncate(false).write(true).open(path).expect("open a slot")
}

async fn wait<T>(begin: Instant, mut ready: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begin.elapsed() < DEADLINE, "no free slot for a server within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

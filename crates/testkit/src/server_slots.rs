//! Limits the number of concurrent servers on one machine, whatever the number of tests.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::server_program::shared_folder;

/// Maximum number of concurrent servers.
const MAX_SERVERS: usize = 6;
const SLOT_TIMEOUT: Duration = Duration::from_secs(900);

/// Permission to run servers, until dropped. The kernel takes it back from a killed test.
#[derive(Debug)]
pub struct ServerSlots {
    _held: Vec<File>,
}

impl ServerSlots {
    /// Waits for `count` slots in one step. A test that holds some must not ask for more: two such
    /// tests would wait for each other.
    pub async fn take(count: usize) -> Self {
        assert!(count <= MAX_SERVERS, "at most {MAX_SERVERS} servers in one test");
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
    let slots = (0..MAX_SERVERS).map(|slot| open(&folder.join(format!("slot-{slot}"))));
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
        assert!(begin.elapsed() < SLOT_TIMEOUT, "no free slot for a server within {SLOT_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

//! Strict, stateful stand-in for EC2's query API, over real HTTP on loopback: instances, volumes
//! and snapshots that change from pending to completed or fail, pages, limits of tags, quotas,
//! throttling, lists that lag, lost answers.
//!
//! A volume may name a folder on this host. Its snapshot is then a copy of that folder at the time
//! of the call, with its server suspended, so that a recovery gets exactly the snapshot.

mod actions;
mod api_error;
mod http;
mod request;
mod state;
mod volume_copy;
mod xml;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use state::{Completion, Ec2Behaviour, Ec2Instance, Ec2Snapshot, Ec2State, Ec2Volume};
pub use volume_copy::copy;

/// Running stand-in. Stopped when dropped; its images stay.
pub struct FakeEc2 {
    /// Its address, for `AWS_ENDPOINT_URL_EC2`.
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<Ec2State>,
    images: PathBuf,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ec2State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeEc2 {
    /// Starts a stand-in on this port (0: any free one) of loopback. Images are in `images`, each
    /// in a folder named after its snapshot.
    pub async fn start(port: u16, images: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("listen");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        std::fs::create_dir_all(images).expect("create the folder of images");
        let shared = Arc::new(Shared { state: Mutex::default(), images: images.to_owned() });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(http::serve(socket, Arc::clone(&serving)));
            }
        });
        Self { url, shared, task }
    }

    /// Reads or changes the state and behaviour.
    pub fn with<T>(&self, look: impl FnOnce(&mut Ec2State) -> T) -> T {
        look(&mut self.shared.lock())
    }

    /// Returns the path of a snapshot's copy, if its volume named a folder.
    pub fn image(&self, snapshot: &str) -> Option<PathBuf> {
        let path = self.shared.images.join(snapshot);
        path.exists().then_some(path)
    }

    /// Waits until it is stopped from outside.
    pub async fn forever(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for FakeEc2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

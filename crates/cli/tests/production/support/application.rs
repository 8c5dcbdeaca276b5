//! An application on a separate host: MySQL's client, which verifies the server's certificate by
//! the host name that it was given.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::servers::Production;

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Books orders, one after the other, and records those that the server acknowledged.
pub struct Application {
    client: Child,
    booked: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Application {
    /// Begins to book on this host, with numbers from `first` on.
    pub fn start(shard: &Production, host: &str, first: u64) -> Self {
        let mut client = client(shard, host).arg("--unbuffered").stdout(Stdio::piped()).spawn().unwrap();
        let (mut to, from) = (client.stdin.take().unwrap(), BufReader::new(client.stdout.take().unwrap()));
        let (booked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noted, told) = (Arc::clone(&booked), Arc::clone(&stop));
        let writer = std::thread::spawn(move || {
            let mut answers = from.lines();
            for order in first.. {
                let sql = format!("INSERT INTO shop.orders VALUES ({order}, NOW()); SELECT {order};\n");
                let sent = !told.load(Ordering::SeqCst) && to.write_all(sql.as_bytes()).is_ok();
                match sent.then(|| answers.next()).flatten() {
                    Some(Ok(answer)) if answer == order.to_string() => noted.lock().unwrap().push(order),
                    _ => return,
                }
            }
        });
        Self { client, booked, stop, writer: Some(writer) }
    }

    /// Waits until this many more orders are booked.
    pub async fn books(&self, more: usize) {
        let count = || self.booked.lock().unwrap().len();
        let until = count() + more;
        let deadline = || format!("the application gets no further than order {}", count());
        crate::support::program::until(WAIT_TIMEOUT, deadline, || count() >= until).await;
    }

    /// Ends the application. Returns the acknowledged orders.
    pub fn stop(mut self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        while self.writer.as_ref().is_some_and(|writer| !writer.is_finished()) {
            if begin.elapsed() > WAIT_TIMEOUT {
                let _ = self.client.kill();
            }
            std::thread::yield_now();
        }
        let _ = self.writer.take().unwrap().join();
        std::mem::take(&mut self.booked.lock().unwrap())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// Returns the result of a statement in the application's session, one line for each row; panics
/// with the client's error if it cannot log in.
pub fn ask(shard: &Production, host: &str, sql: &str) -> Vec<String> {
    let ran = client(shard, host).args(["-e", sql]).stdin(Stdio::null()).output().unwrap();
    assert!(ran.status.success(), "{sql} on {host}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Checks that the client accepts no name that is not in the server's certificate, so that a
/// session proves the certificate.
pub fn assert_verifies(shard: &Production, host: &str) {
    let address = shard.network.address(host);
    let ran = client(shard, &address).args(["-e", "SELECT 1"]).stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success() && told.contains("SSL"), "{address}: {told}");
}

fn client(shard: &Production, host: &str) -> Command {
    let prefix = shard.network.prefix("app");
    let mut command = Command::new(&prefix[0]);
    command.args(&prefix[1..]).arg(shard.program.with_file_name("mysql"));
    command.arg(format!("--defaults-file={}", shard.login().display())).arg(format!("--host={host}"));
    command.args(["-N", "-B"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    command
}

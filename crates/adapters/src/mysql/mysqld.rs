//! Starts, finds and stops mysqld processes.

#![allow(
    clippy::disallowed_methods,
    reason = "waits for programs and servers of this machine, as their port's implementation"
)]

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, lchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backstop_engine::ports::{MysqldControl, MysqldStart, Reporter};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::server::ServerVersion;
use rustix::process::Signal;
use tokio::process::Command;

use super::error_log::ErrorLogFollower;
use super::server_user::ids_of;
use super::{mysqld_process, mysqld_version};
use crate::command;

/// Limit for a killed process to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The server program: initializes, starts, finds and stops servers.
#[derive(Clone)]
pub struct LocalMysqld {
    mysqld: PathBuf,
    reporter: Arc<dyn Reporter>,
}

impl LocalMysqld {
    /// Creates a control for this server program. Progress from a starting server's log goes to the
    /// reporter.
    pub fn new(mysqld: impl Into<PathBuf>, reporter: Arc<dyn Reporter>) -> Self {
        Self { mysqld: mysqld.into(), reporter }
    }

    /// Creates a new, empty data directory with an account `root@localhost` without a password.
    ///
    /// # Errors
    /// Returns an error with the end of the server's log if the server fails or takes longer than
    /// two minutes.
    pub async fn initialize(&self, datadir: &Path, more: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.mysqld);
        command.args(["--no-defaults", "--initialize-insecure"]);
        command.arg(format!("--datadir={}", datadir.display()));
        if rustix::process::geteuid().is_root() {
            command.arg("--user=root");
        }
        command.arg("--secure-file-priv=NULL").args(more);
        let doing = format!("cannot initialize data directory {}", datadir.display());
        command::output(&mut command, Duration::from_secs(120), &doing).await.map(drop)
    }

    fn not_started(&self, doing: &str, why: &str, start: &MysqldStart) -> Error {
        let end = super::error_log::last_errors(&start.log);
        let error = Error::failed(format!("{doing}: {why}; its log ends:\n{end}"));
        let log = start.log.display();
        if end.contains("keyring") {
            return error.hint(format!(
                "its data or its settings need a keyring, which is not part of a backup: give {} the keyring of the server that was backed up \
                 (mysqld.my beside the program names a component), and repeat the same command",
                self.mysqld.display()
            ));
        }
        match apparmor_profile(&self.mysqld) {
            Some(profile) => error.hint(format!(
                "read {log}; if access to files is denied, AppArmor confines the server: allow the directory in {profile}"
            )),
            None => error.hint(format!("read {log}")),
        }
    }
}

#[async_trait]
impl MysqldControl for LocalMysqld {
    fn program(&self) -> PathBuf {
        mysqld_version::locate(&self.mysqld.to_string_lossy()).unwrap_or_else(|| self.mysqld.clone())
    }

    async fn version(&self) -> Result<ServerVersion> {
        let path = mysqld_version::locate(&self.mysqld.to_string_lossy()).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("cannot find server program {}: the file does not exist", self.mysqld.display()),
            )
            .hint("set mysql.server to the mysqld of a MySQL server, 8.0 or newer")
        })?;
        mysqld_version::version_of(&path).await
    }

    async fn start(&self, start: &MysqldStart) -> Result<u32> {
        let doing = format!("cannot start {} on {}", self.mysqld.display(), start.datadir.display());
        let log = open_log(start).await.map_err(|error| error.during(&doing))?;
        remove_stale_lock(&start.socket).failed(&doing)?;
        let mut command = Command::new(&self.mysqld);
        command.arg(format!("--defaults-file={}", start.defaults_file.display()));
        command.arg(format!("--datadir={}", start.datadir.display()));
        if rustix::process::geteuid().is_root() {
            command.arg(format!("--user={}", start.user.as_deref().unwrap_or("root")));
        }
        command.args(&start.args).current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone().failed(&doing)?).stderr(log);
        keep_environment(&mut command, start.user.as_deref());
        detach(&mut command);
        let child = command.spawn().failed(&doing)?;
        child.id().ok_or_else(|| Error::failed(format!("{doing}: it exited immediately")))
    }

    async fn wait_ready(&self, start: &MysqldStart, pid: u32, deadline: Duration) -> Result<()> {
        let doing = format!("cannot start server on {}", start.datadir.display());
        let mut log = ErrorLogFollower::new(&start.log);
        let begin = Instant::now();
        loop {
            for line in log.progress() {
                self.reporter.remark(&line);
            }
            if sends_greeting(&start.socket).await {
                return Ok(());
            }
            if !mysqld_process::is_alive(pid) {
                return Err(self.not_started(&doing, "it exited", start));
            }
            if begin.elapsed() > deadline {
                return Err(self.not_started(&doing, &format!("not ready within {deadline:?}"), start));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn check_options(&self, options: &str) -> Result<()> {
        mysqld_version::check_options(&self.mysqld, options).await
    }

    async fn stop(&self, datadir: &Path, deadline: Duration) -> Result<()> {
        let Some(pid) = mysqld_process::server_on(datadir) else { return Ok(()) };
        let doing = format!("cannot stop server {pid} on {}", datadir.display());
        mysqld_process::signal(pid, Signal::TERM).failed(&doing)?;
        if gone_within(pid, deadline).await {
            return Ok(());
        }
        self.reporter.notice(&format!("server {pid} did not stop within {deadline:?}: killing it"));
        mysqld_process::signal(pid, Signal::KILL).failed(&doing)?;
        if gone_within(pid, KILL_TIMEOUT).await {
            return Ok(());
        }
        Err(Error::failed(format!("{doing}: it still runs after SIGKILL"))
            .hint("check the kernel's log: the server waits for its storage"))
    }

    async fn chown(&self, path: &Path, user: &str) -> Result<()> {
        let doing = format!("cannot change the owner of {} to {user}", path.display());
        let (uid, gid) = ids_of(user).await.map_err(|failure| failure.during(&doing))?;
        let path = path.to_owned();
        let given = tokio::task::spawn_blocking(move || give_tree(&path, uid, gid)).await;
        given.failed(&doing)?.map_err(|error| {
            let failure = Error::failed(format!("{doing}: {error}"));
            match error.kind() {
                std::io::ErrorKind::PermissionDenied => failure
                    .hint("only root can start a server as another user: run as root, or omit --server-user"),
                _ => failure,
            }
        })
    }

    async fn running_on(&self, datadir: &Path) -> Result<Option<u32>> {
        Ok(mysqld_process::server_on(datadir))
    }
}

/// Opens the log for appending. The file belongs to the user the server runs as, since the server
/// reopens it by name.
async fn open_log(start: &MysqldStart) -> Result<File> {
    let doing = format!("cannot open {}", start.log.display());
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&start.log).failed(&doing)?;
    if let Some(user) = &start.user
        && rustix::process::geteuid().is_root()
    {
        let (uid, gid) = ids_of(user).await?;
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).failed(&doing)?;
    }
    Ok(file)
}

/// Passes only the environment variables that programs need to the server: others may hold secrets.
/// A server that runs as another user may not be able to write to this user's directory for
/// temporary files.
fn keep_environment(command: &mut Command, user: Option<&str>) {
    const KEPT_VARIABLES: [&str; 9] =
        ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD"];
    command.env_clear();
    command.envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if user.is_some() {
        command.env_remove("TMPDIR");
    }
}

/// Starts the child in a new session, so that no terminal's hang-up or Ctrl-C reaches it, and keeps
/// this process' open files from it.
fn detach(command: &mut Command) {
    close_on_exec();
    // SAFETY: between fork and exec only setsid is called, which is async-signal-safe and allocates
    // nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into));
    }
}

/// Marks every file that this process inherited (a shell's redirections, a build tool's pipes) as
/// close-on-exec. The files that it opened are marked already, and a server that outlives it must
/// not hold any.
fn close_on_exec() {
    use rustix::fd::BorrowedFd;
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for fd in open.filter(|&fd| fd > 2) {
        // SAFETY: the number is only passed to fcntl(F_SETFD). If the file has been closed in
        // between, the call fails; if another file has taken the number, that file is marked, as
        // all of this process' files are.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
}

/// Returns true if a server sends its greeting on this socket. It does so once it accepts
/// connections, and the client need not send anything.
async fn sends_greeting(socket: &Path) -> bool {
    let socket = socket.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let mut header = [0u8; 5];
        stream.read_exact(&mut header).ok()
    });
    matches!(asked.await, Ok(Some(())))
}

/// Removes the lock file of a socket whose server has ended. A killed server leaves the file with
/// its pid, and the next server does not start as long as any process has that pid: another process
/// after a reboot, or the killed one if its parent has not reaped it.
fn remove_stale_lock(socket: &Path) -> std::io::Result<()> {
    let mut lock = socket.to_owned().into_os_string();
    lock.push(".lock");
    let Ok(holder) = std::fs::read_to_string(&lock) else { return Ok(()) };
    if holder.trim().parse().is_ok_and(mysqld_process::is_server) {
        return Ok(());
    }
    std::fs::remove_file(&lock)
}

/// Returns the path of the file in which an operator can extend the AppArmor profile of an
/// installed server program, if it has one.
fn apparmor_profile(mysqld: &Path) -> Option<String> {
    let path = std::fs::canonicalize(mysqld).ok()?;
    let name = path.strip_prefix("/").ok()?.to_str()?.replace('/', ".");
    let profile = Path::new("/etc/apparmor.d").join(&name);
    profile.is_file().then(|| format!("/etc/apparmor.d/local/{name}"))
}

async fn gone_within(pid: u32, deadline: Duration) -> bool {
    let begin = Instant::now();
    while mysqld_process::is_alive(pid) {
        if begin.elapsed() > deadline {
            return false;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    true
}

/// Changes the owner of a file, or of a directory with everything in it. Follows no symbolic link.
fn give_tree(path: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    lchown(path, Some(uid), Some(gid))?;
    if !std::fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        give_tree(&entry?.path(), uid, gid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A process with a server's name, killed when dropped.
    struct FakeServer(std::process::Child);

    impl FakeServer {
        fn start(dir: &Path) -> Self {
            let program = dir.join("mysqld");
            std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
            let this = Self(std::process::Command::new(program).arg("600").spawn().unwrap());
            until(|| mysqld_process::is_server(this.0.id()));
            this
        }
    }

    impl Drop for FakeServer {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn until(so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !so() {
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    }

    #[test]
    fn lock_of_a_dead_server_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, lock) = (dir.path().join("mysqld.sock"), dir.path().join("mysqld.sock.lock"));
        remove_stale_lock(&socket).unwrap();
        let mut server = FakeServer::start(dir.path());
        for (pid, stays) in [(server.0.id(), true), (std::process::id(), false), (u32::MAX, false)] {
            std::fs::write(&lock, format!("{pid}\n")).unwrap();
            remove_stale_lock(&socket).unwrap();
            assert_eq!(lock.exists(), stays, "{pid}");
        }
        server.0.kill().unwrap();
        until(|| !mysqld_process::is_alive(server.0.id()));
        std::fs::write(&lock, server.0.id().to_string()).unwrap();
        remove_stale_lock(&socket).unwrap();
        assert!(!lock.exists(), "the process is there as a zombie until it is waited for");
    }
}

//! The program under test, as its users run it: configuration, arguments, exit code and output.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use backstop_repo::{Location, S3Access};
use backstop_testkit::TestShard;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Limit for every command of these tests, even on a busy machine.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(180);

/// The program with the configuration of one shard, `orders`. All its output is kept in files of
/// `said`.
pub struct Backstop {
    /// Folder of all the following files.
    pub dir: PathBuf,
    /// Configuration file.
    pub config: PathBuf,
    /// Credentials file.
    pub credentials: PathBuf,
    /// Directory of the repository.
    pub repository: PathBuf,
    /// `snapshot.work_dir`.
    pub work: PathBuf,
    /// Location of the repository, if it is in a bucket.
    pub bucket: Option<Location>,
    /// Key of the repository, if it has one.
    pub key: Option<String>,
    /// Beginning of the command line, if another program runs this one.
    pub prefix: Vec<String>,
    /// Environment variables of the program.
    pub environment: Vec<(&'static str, String)>,
    /// If root runs the tests: true if recovered servers run as root, unless the command line names
    /// a user.
    pub servers_of_root: bool,
    said: AtomicUsize,
}

impl Backstop {
    /// Creates a configuration for this shard; the second member, if one exists, is its candidate.
    pub async fn of(shard: &TestShard, provider: &str) -> Self {
        let this = Self::within(shard.base().join("b"));
        let password = shard.password();
        this.write_credentials(&format!(
            "user = 'backstop'\npassword = '{password}'\nreplication_user = 'backstop_replication'\n\
             replication_password = '{password}'\n"
        ));
        let members: Vec<String> = shard.endpoints().iter().map(ToString::to_string).collect();
        this.configure(&shard.program, &members, provider);
        this
    }

    /// Places all files in this folder, without a configuration.
    pub fn within(dir: PathBuf) -> Self {
        std::fs::create_dir_all(dir.join("said")).unwrap();
        Self {
            config: dir.join("backstop.toml"),
            credentials: dir.join("orders.toml"),
            repository: dir.join("repository"),
            work: dir.join("w"),
            bucket: None,
            key: None,
            prefix: Vec::new(),
            environment: Vec::new(),
            servers_of_root: rustix::process::geteuid().is_root(),
            said: AtomicUsize::new(0),
            dir,
        }
    }

    /// Writes a configuration for these members; the second, if one exists, is the candidate.
    pub fn configure(&self, program: &Path, members: &[String], provider: &str) {
        let candidate = members.get(1).map(|member| format!(", candidate = '{member}'")).unwrap_or_default();
        let configuration = format!(
            "[repository]\nurl = 'file://{}'\ncreate = 'if-empty'\n\n[mysql]\nserver = '{}'\n\n[shards.orders]\n\
             credentials = {{ file = '{}' }}\ntopology = {{ members = {members:?}{candidate} }}\n\
             snapshot = {{ provider = '{provider}', work_dir = '{}' }}\n",
            self.repository.display(),
            program.display(),
            self.credentials.display(),
            self.work.display(),
        );
        std::fs::write(&self.config, configuration).unwrap();
    }

    /// Writes the credentials file, which only its owner can read.
    pub fn write_credentials(&self, text: &str) {
        std::fs::write(&self.credentials, text).unwrap();
        std::fs::set_permissions(&self.credentials, PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// Puts the repository into a bucket of the tests' S3 server, through another endpoint than its
    /// own: a proxy's.
    pub fn in_bucket(&mut self, s3: &S3, prefix: &str, endpoint: &str) {
        let url = format!("s3://{}/{prefix}", s3.bucket);
        let keys = self.dir.join("s3.toml");
        std::fs::write(&keys, format!("access_key_id = '{}'\nsecret_access_key = '{}'\n", s3.id, s3.secret))
            .unwrap();
        std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
        let text = std::fs::read_to_string(&self.config).unwrap();
        let own = format!("url = 'file://{}'", self.repository.display());
        let there = format!(
            "url = '{url}'\nendpoint = '{endpoint}'\ncredentials = {{ file = '{}' }}",
            keys.display()
        );
        assert!(text.contains(&own));
        std::fs::write(&self.config, text.replace(&own, &there)).unwrap();
        let access = S3Access {
            endpoint: Some(s3.endpoint.clone()),
            access_key_id: Some(s3.id.clone()),
            secret_access_key: Some(s3.secret.clone().into()),
            ..S3Access::default()
        };
        self.bucket = Some(Location { s3: access, ..Location::new(url) });
    }

    /// Puts the repository into another directory.
    pub fn in_directory(&mut self, path: &Path) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let url = |path: &Path| format!("url = 'file://{}'", path.display());
        assert!(text.contains(&url(&self.repository)));
        std::fs::write(&self.config, text.replace(&url(&self.repository), &url(path))).unwrap();
        self.repository = path.to_owned();
    }

    /// Encrypts everything in the repository.
    pub fn encrypt_repository(&mut self) {
        let (key, file) = ("7e".repeat(32), self.dir.join("repository.key"));
        std::fs::write(&file, &key).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let text = std::fs::read_to_string(&self.config).unwrap();
        let entry = format!("[repository]\nencryption_key = {{ file = '{}' }}\n", file.display());
        std::fs::write(&self.config, text.replace("[repository]\n", &entry)).unwrap();
        self.key = Some(key);
    }

    /// Starts a command line of words between spaces. `fault` is the failpoint at which the program
    /// stops itself: `kill@after:store`.
    pub fn spawn(&self, line: &str, error: Option<&str>) -> RunningBackstop {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.spawn_words(&words, error)
    }

    /// Starts a command line of separate words.
    pub fn spawn_words(&self, words: &[&str], error: Option<&str>) -> RunningBackstop {
        let number = self.said.fetch_add(1, Ordering::SeqCst);
        let file = |end: &str| self.dir.join(format!("said/{number:04}.{end}"));
        let (out, err) = (file("out"), file("err"));
        let mut all = self.prefix.iter().map(PathBuf::from).chain([program()]);
        let mut command = Command::new(all.next().unwrap());
        command.args(all);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BACKSTOP_") {
                command.env_remove(name);
            }
        }
        if let Some(error) = error {
            command.env("BACKSTOP_TEST_FAULT", error);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.dir).arg("--config").arg(&self.config).args(words);
        let user_is_named = words.iter().any(|word| ["--server-user", "--run-as-root"].contains(word));
        if self.servers_of_root && words.contains(&"recover") && !user_is_named {
            command.arg("--run-as-root");
        }
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let child = command.spawn().expect("start backstop");
        RunningBackstop { child, line: words.join(" "), out, err }
    }

    /// Runs a command line to its end.
    pub async fn run(&self, line: &str) -> Finished {
        self.spawn(line, None).end().await
    }

    /// Runs a command line with `--json`; it must succeed.
    pub async fn json(&self, line: &str) -> Value {
        self.run(&format!("--json {line}")).await.json()
    }

    /// Runs a command line until it kills itself at this point, which it must reach.
    pub async fn killed(&self, line: &str, point: &str) -> Finished {
        let ran = self.spawn(line, Some(&format!("kill@{point}"))).end().await;
        let signal = ran.status.signal();
        assert_eq!(signal, Some(Signal::KILL.as_raw()), "`{line}` did not get to {point}: {ran}");
        ran
    }

    /// Returns the ids of the shard's backups, newest first. Each must be complete. A run that
    /// ended before its claim has not created a repository, which exit code 21 shows.
    pub async fn backups(&self) -> Vec<String> {
        let ran = self.run("--json backups orders").await;
        if ran.status.code() == Some(21) && !self.repository.join("backstop").exists() {
            return Vec::new();
        }
        let list = ran.json();
        let rows = list["backups"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["state"] == "complete"), "{list}");
        rows.iter().map(|row| row["backup_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// S3 server of the tests (`testing/s3-server`).
pub struct S3 {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// Name of its bucket.
    pub bucket: String,
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
}

impl S3 {
    /// Returns the server that the environment names; `None`, with a message on standard error, if
    /// it names none.
    pub fn of_the_tests() -> Option<Self> {
        let given = |name: &str| std::env::var(format!("BACKSTOP_TEST_S3_{name}")).ok();
        let all = (given("ENDPOINT"), given("BUCKET"), given("ACCESS_KEY_ID"), given("SECRET_ACCESS_KEY"));
        let (Some(endpoint), Some(bucket), Some(id), Some(secret)) = all else {
            eprintln!("SKIPPED: there is no S3 server in the environment");
            return None;
        };
        Some(Self { endpoint, bucket, id, secret })
    }
}

/// Returns the program in `BACKSTOP_TEST_PROGRAM`, or the one that cargo built: for tests of
/// another crate it is beside theirs.
pub fn program() -> PathBuf {
    let given = std::env::var_os("BACKSTOP_TEST_PROGRAM").map(PathBuf::from);
    let built = given.or_else(|| option_env!("CARGO_BIN_EXE_backstop").map(PathBuf::from));
    built.unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().join("backstop")
    })
}

/// A running command. Killed when dropped.
pub struct RunningBackstop {
    child: Child,
    line: String,
    out: PathBuf,
    err: PathBuf,
}

impl RunningBackstop {
    /// Returns the command's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = kill_process(pid, signal);
    }

    /// Returns the output on standard error up to now.
    pub fn told(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// Waits until the command has stopped itself with SIGSTOP.
    pub async fn stopped(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        let stopped = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
        until(COMMAND_TIMEOUT, || format!("`{}` does not stop itself: {}", self.line, self.told()), stopped)
            .await;
    }

    /// Waits until the command has ended.
    pub async fn end(mut self) -> Finished {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return self.ran(status);
            }
            assert!(begin.elapsed() < COMMAND_TIMEOUT, "`{}` does not end: {}", self.line, self.told());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the command has ended, or kills it after this time.
    pub async fn end_or_kill(mut self, after: Duration) -> Finished {
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if begin.elapsed() >= after {
                self.signal(Signal::KILL);
                return self.end().await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.end().await
    }

    fn ran(&self, status: ExitStatus) -> Finished {
        let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        Finished { status, line: self.line.clone(), out: read(&self.out), err: read(&self.err) }
    }
}

impl Drop for RunningBackstop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exit status and output of a command.
pub struct Finished {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Command line.
    pub line: String,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Finished {
    /// Returns the one object on standard output; the command must have succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.status.code(), Some(0), "{self}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Checks that the command failed with this exit code and one error that contains these words.
    pub fn failed(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        assert!(self.out.is_empty(), "a failure gives no result: {self}");
        let errors = self.err.lines().filter(|line| line.starts_with("error:")).count();
        assert_eq!(errors, 1, "one error: {self}");
        let told = &self.err[self.err.find("error:").unwrap()..];
        for word in words {
            assert!(told.contains(word), "`{word}` is not in: {self}");
        }
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {}\nout: {}\nerr: {}", self.line, self.status, self.out, self.err)
    }
}

/// Waits until a condition holds.
pub async fn until(deadline: Duration, what: impl Fn() -> String, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < deadline, "{}", what());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the points before and after each step, as `BACKSTOP_TEST_FAULT` names them.
pub fn points(steps: &[&str]) -> Vec<String> {
    steps.iter().flat_map(|step| [format!("before:{step}"), format!("after:{step}")]).collect()
}

//! The shard of the runbook tests, and the terminal into which commands are pasted.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backstop_cli::runbooks::RunbookValues;
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::Endpoint;

use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::held;

/// Limit for commands that are pasted together, even on a busy machine.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(240);

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A person's terminal: the command `backstop` may report problems (exit code 1 of `status` and
/// `check`, 22 of `verify`); any other failure ends the session and names the command.
const TERMINAL: &str = "set -Eeuo pipefail\n\
    backstop() { local code=0; command backstop \"$@\" || code=$?; [[ \"$1 $code\" =~ ^(status\\ 1|check\\ 1|verify\\ 22)$ ]] || return $code; }\n\
    trap 'echo \"FAILED: $BASH_COMMAND\" >&2' ERR\n";

/// Replaces systemd: runs the archiver as its service would.
const SYSTEMCTL: &str = "#!/usr/bin/env bash\n\
    set -eu\n\
    [ \"$1\" = daemon-reload ] && exit 0\n\
    [ \"$2\" = backstop-archive-orders ]\n\
    pid=$HOME/archiver.pid\n\
    if [ \"$1\" != start ] && [ -e \"$pid\" ]; then\n\
    kill \"$(cat \"$pid\")\" 2>/dev/null && tail --pid=\"$(cat \"$pid\")\" -s 0.05 -f /dev/null; rm \"$pid\"\n\
    fi\n\
    if [ \"$1\" != stop ]; then\n\
    backstop archive orders >>\"$HOME/archiver.log\" 2>&1 </dev/null & echo $! >\"$pid\"\n\
    fi\n";

/// Replaces the journal of that service.
const JOURNALCTL: &str = "#!/usr/bin/env bash\ntail -n 50 \"$HOME/archiver.log\"\n";

/// A shard with a backup and a running archiver.
pub struct ShellSession {
    // Dropped before the shard, whose folder they are in: a server is found by its data directory,
    // and killed.
    pub copy: RecoveredServer,
    pub new: RecoveredServer,
    pub replica: RecoveredServer,
    pub shard: TestShard,
    pub backstop: Backstop,
    values: RunbookValues,
    home: PathBuf,
}

impl ShellSession {
    /// Starts a shard of three, with an administrator, a table, a backup, and a running archiver.
    pub async fn begin() -> Self {
        let shard = TestShard::start(ShardLayout {
            grants: vec!["base", "clone", "replication", "fix"],
            ..ShardLayout::default()
        })
        .await;
        let backstop = Backstop::of(&shard, "clone").await;
        let text = std::fs::read_to_string(&backstop.config).unwrap();
        std::fs::write(
            &backstop.config,
            format!("{text}archive = {{ from = 'primary', semi_sync = true }}\n"),
        )
        .unwrap();
        let home = shard.base().join("home");
        let at = |name: &str| RecoveredServer::at(shard.base().join(name));
        let (copy, new, replica) = (at("copy"), at("new"), at("replica"));
        let mut values = values(&shard, &backstop);
        for (sample, server) in
            [("/srv/copy", &copy), ("/var/lib/mysql-new", &new), ("/var/lib/mysql-replica", &replica)]
        {
            values.word(sample, &server.dir.display().to_string());
        }
        let night = Self { values, copy, new, replica, home, shard, backstop };
        night.furnish();
        night.login("admin", night.shard.password());
        let password = night.shard.password();
        night
            .shard
            .primary()
            .run(&[
                &format!("CREATE USER 'admin'@'%' IDENTIFIED BY '{password}'"),
                "GRANT ALL ON *.* TO 'admin'@'%'",
                "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
                "CREATE DATABASE shop",
                "CREATE TABLE shop.customers (id INT PRIMARY KEY, name VARCHAR(40))",
                "INSERT INTO shop.customers WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                 SELECT i, CONCAT('customer ', i) FROM n",
            ])
            .await;
        night.shard.settle().await;
        night.backstop.json("backup orders").await;
        night.paste("systemctl start backstop-archive-orders").await;
        night
    }

    /// Replaces that sample of the pages by this value from now on.
    pub fn see(&mut self, sample: &str, value: &str) {
        self.values.put(sample, value);
    }

    /// Replaces a sample of the pages by a server on loopback.
    pub fn see_server(&mut self, sample: &str, port: u16) {
        self.values.server(sample, &Endpoint::new("127.0.0.1", port));
    }

    /// Makes commands log in to MySQL as this user.
    pub fn login(&self, user: &str, password: &str) {
        let file = self.home.join(".my.cnf");
        std::fs::write(&file, format!("[client]\nuser = {user}\npassword = {password}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// Pastes commands as a page has them; they must succeed. Returns their output.
    pub async fn paste(&self, commands: &str) -> String {
        self.paste_with(commands, &[("BACKSTOP_CONFIG", &self.backstop.config)]).await
    }

    /// Pastes commands with these environment variables only.
    pub async fn paste_with(&self, commands: &str, variables: &[(&str, &PathBuf)]) -> String {
        // The machine of a test need not have that user.
        let user = if rustix::process::geteuid().is_root() { " --run-as-root" } else { "" };
        let commands = self.values.fill(commands).replace(" --server-user mysql", user);
        let program = PathBuf::from(env!("CARGO_BIN_EXE_backstop"));
        let folders = [self.home.join("bin"), folder(&program), folder(&self.shard.program)];
        let path = folders.iter().map(|folder| format!("{}:", folder.display())).collect::<String>();
        let mut bash = tokio::process::Command::new("bash");
        bash.arg("-c").arg(format!("{TERMINAL}{commands}")).current_dir(&self.home).kill_on_drop(true);
        bash.env("PATH", format!("{path}{}", std::env::var("PATH").unwrap())).env("HOME", &self.home);
        bash.env_remove("BACKSTOP_CONFIG").envs(variables.iter().copied()).stdin(std::process::Stdio::null());
        let ran = tokio::time::timeout(COMMAND_TIMEOUT, bash.output()).await;
        let ran =
            ran.unwrap_or_else(|_| panic!("does not end within {COMMAND_TIMEOUT:?}: {commands}")).unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{}\n{commands}\n{said}", ran.status);
        said
    }

    /// Waits until the archive holds these transactions.
    pub async fn archived(&self, set: &GtidSet) {
        let begin = Instant::now();
        while !set.is_subset_of(&held(&self.backstop).await) {
            let log = || std::fs::read_to_string(self.home.join("archiver.log"));
            assert!(begin.elapsed() < WAIT_TIMEOUT, "not archived: {set}\n{:?}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until `status` says that the archiver is running, as the pages ask.
    pub async fn archiver_runs(&self) {
        let begin = Instant::now();
        loop {
            let said = self.paste("backstop status orders --json").await;
            if said.contains("\"archiver-running\"") {
                return;
            }
            assert!(begin.elapsed() < WAIT_TIMEOUT, "the archiver does not run: {said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes the commands into the home directory of the person at the terminal.
    fn furnish(&self) {
        let bin = self.home.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (name, script) in [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)] {
            std::fs::write(bin.join(name), script).unwrap();
            std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
}

impl Drop for ShellSession {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.home.join("archiver.pid")) {
            let _ = std::process::Command::new("kill").args(["-9", pid.trim()]).status();
        }
    }
}

fn values(shard: &TestShard, backstop: &Backstop) -> RunbookValues {
    let mut values = RunbookValues::default();
    for (number, member) in shard.members.iter().enumerate() {
        values.server(&format!("db{}", number + 1), &member.endpoint());
    }
    values.word("/etc/backstop/backstop.toml", &backstop.config.display().to_string());
    for (sample, name) in [
        ("/srv/rows.sql", "rows.sql"),
        ("/srv/backstop-work", "larger"),
        ("/etc/backstop/repository.key", "repository.key"),
        ("/etc/systemd/system/backstop-archive-orders.service", "archiver.service"),
    ] {
        values.word(sample, &shard.base().join(name).display().to_string());
    }
    values.word("/etc/backstop/orders.toml", &backstop.credentials.display().to_string());
    values.word("/var/lib/backstop/work", &backstop.work.display().to_string());
    values.put("file:///srv/backstop", &format!("file://{}", backstop.repository.display()));
    values.put("file:///srv/backstop-new", &format!("file://{}", shard.base().join("another").display()));
    // The new server gets a free port.
    values.put(" --port 3306", "");
    values.put("--listen db4", "--listen 127.0.0.1");
    values
}

fn folder(program: &Path) -> PathBuf {
    program.parent().unwrap().to_owned()
}

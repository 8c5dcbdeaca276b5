//! Stand-in for the AWS account of a shard's instances, in which real Terraform and Ansible recover
//! them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backstop_adapters::mysql::connection::{Connector, Login};
use serde_json::Value;

use crate::server_program::server_program;
use crate::workload::{WrittenRows, missing_on};
use crate::{TestMember, TestShard};

/// Region of all its resources.
pub const REGION: &str = "eu-central-1";
/// Time limit of the start, which is slow on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(170);

/// moto's server, with devices for its volumes (`testing/rebuild/cloud.py`). Dropping it ends the
/// processes on the devices and returns the devices: drop it before the file systems they are
/// mounted in.
pub struct AwsStack {
    child: Child,
    told: Value,
}

impl AwsStack {
    /// Starts the account of a shard of two, whose second member is on an instance with a volume.
    /// `None`, with a message, if there is no Terraform, which no package client has, or if the
    /// user is not root.
    #[allow(clippy::print_stderr)]
    pub async fn start(shard: &TestShard) -> Option<Self> {
        if Command::new("terraform").arg("version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: there is no terraform on PATH");
            return None;
        }
        if rustix::process::geteuid().as_raw() != 0 {
            eprintln!("SKIPPED: only root can make a device of the image that stands in for a volume");
            return None;
        }
        let folder = shard.base().join("cloud");
        std::fs::create_dir_all(&folder).expect("a folder");
        let (said, errors) = (folder.join("said"), folder.join("errors"));
        let [primary, source] = &shard.endpoints()[..] else { panic!("two members") };
        let child = python()
            .arg(script())
            .arg(&folder)
            .args([primary.to_string(), source.to_string()])
            .arg(shard.base().join("m2"))
            .arg(shard.base().join("host/mysql"))
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&said).expect("a file"))
            .stderr(std::fs::File::create(&errors).expect("a file"))
            .spawn()
            .expect("start the stand-in for AWS (run testing/install test)");
        let mut cloud = Self { child, told: Value::Null };
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let begun = Instant::now();
        while !text(&said).ends_with('\n') {
            assert!(
                begun.elapsed() < START_TIMEOUT,
                "the stand-in for AWS does not start: {}",
                text(&errors)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cloud.told = serde_json::from_str(&text(&said)).expect("JSON");
        Some(cloud)
    }

    /// Returns its address.
    pub fn url(&self) -> &str {
        self.told("url")
    }

    /// Returns the remains of recoveries: `instances`, `protected`, `zones`, `volumes`,
    /// `interfaces`.
    pub fn left(&self) -> Value {
        let said = python().arg(script()).args(["left", self.url()]).output().expect("run Python");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        serde_json::from_slice(&said.stdout).expect("JSON")
    }

    /// Returns the variables with which `backstop` and its child processes find the account.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let bin = root().join(".cache/venv/bin");
        let path = std::env::var("PATH").expect("PATH");
        vec![
            ("AWS_ENDPOINT_URL", self.url().to_owned()),
            ("AWS_ENDPOINT_URL_S3", self.url().to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("TF_CLI_CONFIG_FILE", self.told("terraform").to_owned()),
            ("PATH", format!("{}:{path}", bin.display())),
        ]
    }

    /// Returns the configuration for recovering a shard's instances: with the role as delivered,
    /// and the new host's files in `host`. `subnet_of` maps each zone to the zone whose subnet it
    /// uses.
    pub async fn recovery(
        &self,
        shard: &str,
        host: &Path,
        port: u16,
        subnet_of: impl Fn(&str) -> String,
    ) -> String {
        let subnet = |zone: &str| format!("'{zone}' = {}", self.told["subnets"][subnet_of(zone)]);
        format!(
            "[shards.{shard}.recovery]\nterraform = '{terraform}'\nplaybook = '{playbook}'\nsubnets = {{ {a}, {b} }}\n\
             state = {{ bucket = 'states', region = '{REGION}', use_path_style = true, skip_credentials_validation = true, \
             skip_requesting_account_id = true, skip_metadata_api_check = true }}\n\
             [shards.{shard}.recovery.variables]\nimage = '{image}'\ngroups = ['{group}']\nport = {port}\n\
             [shards.{shard}.recovery.variables.host]\n{variables}\
             [shards.{shard}.recovery.variables.host.backstop_options_here]\n\
             innodb_buffer_pool_size = '64M'\nmysqlx = 'OFF'\nsecure_file_priv = 'NULL'\npid_file = '{host}/mysqld.pid'\n",
            terraform = self.told("root"),
            playbook = root().join("deploy/ansible/playbooks/recover.yml").display(),
            a = subnet("eu-central-1a"),
            b = subnet("eu-central-1b"),
            image = self.told("image"),
            group = self.told("group"),
            variables = variables(host).await,
            host = host.display(),
        )
    }

    fn told(&self, key: &str) -> &str {
        self.told[key].as_str().expect("a text")
    }
}

impl Drop for AwsStack {
    fn drop(&mut self) {
        // It returns its devices when its standard input ends, within a minute.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Fails unless the recovered server at this socket comes to hold exactly what the primary holds,
/// with every acknowledged row.
pub async fn assert_joined(socket: &Path, primary: &TestMember, written: &WrittenRows) {
    let login = Login { user: "root".into(), password: String::new().into() };
    let connector = Connector::with_login(login, None);
    let mut root = connector.connect(socket).await.expect("log in to the recovered server");
    let held = primary.gtid_executed().await;
    let begun = Instant::now();
    loop {
        let executed: Option<String> = root.one("SELECT @@GLOBAL.gtid_executed").await.expect("its GTID set");
        if executed.is_some_and(|set| set.parse() == Ok(held.clone())) {
            break;
        }
        assert!(begun.elapsed() < START_TIMEOUT, "it does not catch up with the primary");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let sums = backstop_testbed::tables::checksums(&mut root).await.expect("checksums");
    assert_eq!(sums, crate::tables::checksums(primary).await);
    assert_eq!(
        written.missing_on(&mut root).await.expect("its rows"),
        Vec::<u64>::new(),
        "acknowledged and lost"
    );
    assert_eq!(missing_on(written, primary).await, Vec::<u64>::new());
}

/// Returns the variables of the role that differ from those of a dedicated instance: this host has
/// other servers, and no units.
async fn variables(host: &Path) -> String {
    let start = format!(
        "setsid {} --defaults-file={}/my.cnf >/dev/null 2>&1 </dev/null &",
        server_program().await.mysqld.display(),
        host.display()
    );
    format!(
        "ansible_connection = 'local'\nansible_python_interpreter = '{python}'\nbackstop_become = false\nbackstop_fstab = false\n\
         backstop_packages = []\nbackstop_os_user = 'root'\nbackstop_os_group = 'root'\nbackstop_bind_address = '127.0.0.1'\n\
         backstop_mount = '{host}/mysql'\nbackstop_data_folder = 'data'\nbackstop_state = '{host}/state'\n\
         backstop_options_file = '{host}/my.cnf'\nbackstop_socket = '{host}/mysqld.sock'\nbackstop_log = '{host}/mysqld.log'\n\
         backstop_program = '{program}'\nbackstop_configuration_file = '{host}/backstop.toml'\nbackstop_into = '{host}/server'\n\
         backstop_start_timeout = 150\nbackstop_start_command = ['sh', '-c', '{start}']\n",
        python = root().join(".cache/venv/bin/python").display(),
        host = host.display(),
        program = root().join("target/debug/backstop").display(),
    )
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn script() -> PathBuf {
    root().join("testing/rebuild/cloud.py")
}

fn python() -> Command {
    let mut command = Command::new(root().join(".cache/venv/bin/python"));
    command.env_remove("AWS_ENDPOINT_URL").stdin(Stdio::null());
    command
}

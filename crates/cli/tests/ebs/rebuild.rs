//! The whole way back: a backup in EBS snapshots, an instance that real Terraform makes at a stand-in for AWS, and a server on
//! it that a real run of Ansible has join the shard.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backstop_adapters::mysql::connect::{Connection, Connector, Login};
use backstop_testkit::ledger::{Written, missing_on};
use backstop_testkit::member::free_port;
use backstop_testkit::program::server_program;
use backstop_testkit::{Layout, Ledger, Shard, tables};
use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Backstop, until};

/// No start and no step of these tests takes longer, on however busy a machine.
const LONGEST: Duration = Duration::from_secs(170);

/// A shard of two whose second member is on an instance with a volume, and what recovers it.
struct Fleet {
    /// Dropped first: the server runs on a device of its.
    cloud: Cloud,
    shard: Shard,
    backstop: Backstop,
    /// Where the recovered server lives.
    host: PathBuf,
    port: u16,
}

/// A stand-in for AWS, which ends when this is dropped.
struct Cloud {
    child: Child,
    told: Value,
}

impl Cloud {
    async fn start(shard: &Shard, folder: &std::path::Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let said = folder.join("said");
        let [primary, source] = &shard.endpoints()[..] else { panic!("two members") };
        let child = python()
            .arg(testing("cloud.py"))
            .arg(folder)
            .args([primary.to_string(), source.to_string()])
            .arg(shard.base().join("m2/data"))
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&said).unwrap())
            .stderr(std::fs::File::create(folder.join("errors")).unwrap())
            .spawn()
            .expect("start the stand-in for AWS (run testing/install test)");
        let mut cloud = Self { child, told: Value::Null };
        let told = || std::fs::read_to_string(&said).unwrap_or_default();
        let errors = || std::fs::read_to_string(folder.join("errors")).unwrap_or_default();
        until(LONGEST, errors, || told().ends_with('\n')).await;
        cloud.told = serde_json::from_str(&told()).unwrap();
        cloud
    }

    fn url(&self) -> &str {
        self.told["url"].as_str().unwrap()
    }

    /// What there is of recoveries.
    fn left(&self) -> Value {
        let said = python().arg(testing("cloud.py")).args(["left", self.url()]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        serde_json::from_slice(&said.stdout).unwrap()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It gives its devices back when its standard input ends, which takes it a minute at most.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Fleet {
    /// `None` where there is no Terraform, which no package client has, or where this is not root: that is said, and the test ends.
    async fn start() -> Option<Self> {
        if Command::new("terraform").arg("version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: there is no terraform on PATH");
            return None;
        }
        if rustix::process::geteuid().as_raw() != 0 {
            eprintln!("SKIPPED: only root can make a device of the image that stands in for a volume");
            return None;
        }
        let shard = Shard::start(Layout { members: 2, ..Layout::default() }).await;
        let cloud = Cloud::start(&shard, &shard.base().join("cloud")).await;
        let mut backstop = Backstop::of(&shard, "ebs").await;
        let bin = root().join(".cache/venv/bin");
        let path = std::env::var("PATH").unwrap();
        backstop.environment = vec![
            ("AWS_ENDPOINT_URL", cloud.url().to_owned()),
            ("AWS_ENDPOINT_URL_S3", cloud.url().to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("TF_CLI_CONFIG_FILE", cloud.told["terraform"].as_str().unwrap().to_owned()),
            ("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_REGION", "eu-central-1".to_owned()),
            ("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_VOLUME_DEVICE", "/dev/sdf".to_owned()),
            // The copy that stands in for a snapshot takes longer than EC2's answer.
            ("BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD", "60s".to_owned()),
            ("PATH", format!("{}:{path}", bin.display())),
        ];
        let fleet = Self { host: shard.base().join("host"), port: free_port(), cloud, shard, backstop };
        std::fs::create_dir_all(&fleet.host).unwrap();
        fleet.configure(|_, zone| zone.to_owned()).await;
        Some(fleet)
    }

    /// Writes how instances are recovered; `subnet_of` says which zone's subnet each zone is given.
    async fn configure(&self, subnet_of: impl Fn(&Self, &str) -> String) {
        let told = |key: &str| self.cloud.told[key].as_str().unwrap();
        let subnet = |zone: &str| {
            let of = subnet_of(self, zone);
            format!("'{zone}' = {}", self.cloud.told["subnets"][of])
        };
        let text = std::fs::read_to_string(&self.backstop.config).unwrap();
        let text = text.split("[shards.orders.recovery]").next().unwrap();
        let text = format!(
            "{text}[shards.orders.recovery]\nterraform = '{root}'\nplaybook = '{playbook}'\n\
             subnets = {{ {a}, {b} }}\n\
             state = {{ bucket = 'states', region = 'eu-central-1', use_path_style = true, skip_credentials_validation = true, \
             skip_requesting_account_id = true, skip_metadata_api_check = true }}\n\
             [shards.orders.recovery.variables]\nimage = '{image}'\ngroups = ['{group}']\nport = {port}\n\
             [shards.orders.recovery.variables.host]\n{host}",
            root = told("root"),
            playbook = root().join("deploy/ansible/playbooks/recover.yml").display(),
            a = subnet("eu-central-1a"),
            b = subnet("eu-central-1b"),
            image = told("image"),
            group = told("group"),
            port = self.port,
            host = self.host_variables().await,
        );
        std::fs::write(&self.backstop.config, text).unwrap();
    }

    /// What the role is told to do otherwise than on an instance of its own: this host has other servers, and no units.
    async fn host_variables(&self) -> String {
        let options = self.host.join("my.cnf");
        let program = server_program().await.mysqld.display();
        let start =
            format!("setsid {program} --defaults-file={} >/dev/null 2>&1 </dev/null &", options.display());
        let here = |name: &str| format!("'{}'", self.host.join(name).display());
        format!(
            "ansible_connection = 'local'\nansible_python_interpreter = '{python}'\nbackstop_become = false\n\
             backstop_fstab = false\nbackstop_packages = []\nbackstop_os_user = 'root'\nbackstop_os_group = 'root'\n\
             backstop_mount = {mount}\nbackstop_data_folder = 'data'\nbackstop_state = {state}\nbackstop_options_file = {options}\n\
             backstop_socket = {socket}\nbackstop_log = {log}\nbackstop_bind_address = '127.0.0.1'\n\
             backstop_start_timeout = 150\nbackstop_start_command = ['sh', '-c', '{start}']\n\
             [shards.orders.recovery.variables.host.backstop_options_here]\n\
             innodb_buffer_pool_size = '64M'\nmysqlx = 'OFF'\nsecure_file_priv = 'NULL'\npid_file = {pid}\n",
            python = root().join(".cache/venv/bin/python").display(),
            mount = here("mysql"),
            state = here("state"),
            options = here("my.cnf"),
            socket = here("mysqld.sock"),
            log = here("mysqld.log"),
            pid = here("mysqld.pid"),
        )
    }

    fn line(&self, into: &str) -> String {
        format!("recover orders --to latest --join --into {}", self.shard.base().join(into).display())
    }

    async fn root(&self) -> Connection {
        let login = Login { user: "root".into(), password: String::new().into() };
        let socket = self.host.join("mysqld.sock");
        Connector::with_login(login, None)
            .connect(socket.as_path())
            .await
            .expect("log in to the recovered server")
    }

    /// The recovered server holds what the primary holds, and every acknowledged row.
    async fn equals(&self, written: &Written) {
        let primary = self.shard.primary();
        let held = primary.gtid_executed().await;
        let begin = std::time::Instant::now();
        loop {
            let executed: Option<String> =
                self.root().await.one("SELECT @@GLOBAL.gtid_executed").await.unwrap();
            if executed.unwrap().parse::<backstop_model::gtid::GtidSet>().unwrap() == held {
                break;
            }
            assert!(begin.elapsed() < LONGEST, "it does not hold what the primary holds");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sums = backstop_lab::tables::checksums(&mut self.root().await).await.unwrap();
        assert_eq!(sums, tables::checksums(primary).await);
        let rows: Vec<(u64, u64)> =
            self.root().await.query("SELECT id, value FROM ledger.entries").await.unwrap();
        assert_eq!(
            written.rows.iter().filter(|row| !rows.contains(row)).count(),
            0,
            "acknowledged rows that it lacks"
        );
        assert_eq!(missing_on(written, primary).await, Vec::<u64>::new());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn testing(file: &str) -> PathBuf {
    root().join("testing/rebuild").join(file)
}

fn python() -> Command {
    let mut command = Command::new(root().join(".cache/venv/bin/python"));
    command.env_remove("AWS_ENDPOINT_URL").stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_made_joins_and_survives_kills() {
    let Some(fleet) = Fleet::start().await else { return };
    tables::fill(fleet.shard.primary(), 2, 500).await;
    let ledger = Ledger::start(fleet.shard.primary()).await;
    ledger.wait_for_more(50).await;
    let backup = fleet.backstop.json("backup orders").await;
    ledger.wait_for_more(50).await;
    let written = ledger.stop().await;

    let line = fleet.line("recovery");
    let plan = fleet.backstop.json(&format!("{line} --plan")).await;
    assert_eq!(
        (&plan["zone"], &plan["terraform"]["destroy"]),
        (&"eu-central-1b".into(), &0.into()),
        "{plan}"
    );
    assert!(
        !fleet.shard.base().join("recovery").exists()
            && fleet.cloud.left()["volumes"] == serde_json::json!([])
    );

    for point in ["before:decide", "after:decide", "before:apply"] {
        fleet.backstop.killed(&line, point).await;
    }
    // In the middle of Terraform's work, which goes on by itself and holds its state.
    let running = fleet.backstop.spawn(&line, None);
    until(LONGEST, || running.told(), || running.told().contains("Creating...")).await;
    running.signal(Signal::KILL);
    running.end().await;
    for point in [
        "after:apply",
        "before:configure",
        "after:configure",
        "after:joined",
        "before:protect",
        "after:protect",
        "before:hand_over",
    ] {
        fleet.backstop.killed(&line, point).await;
    }
    let report = fleet.backstop.json(&line).await;
    assert_eq!((&report["joined"], &report["backup_id"]), (&true.into(), &backup["backup_id"]), "{report}");
    assert_eq!(report["server"]["port"], fleet.port);
    fleet.equals(&written).await;

    let left = fleet.cloud.left();
    assert_eq!(
        left["instances"],
        serde_json::json!([report["instance"]["instance_id"]]),
        "one, whoever was killed"
    );
    assert_eq!(
        (&left["protected"], &left["zones"]),
        (&serde_json::json!([true]), &serde_json::json!(["eu-central-1b"]))
    );
    assert_eq!(left["volumes"], report["instance"]["volume_ids"]);
    let folder = fleet.shard.base().join("recovery/.backstop");
    assert!(!folder.join("secrets.yml").exists(), "secrets do not stay");
    for file in
        ["journal", "ansible.log", "variables.yml", "inventory.yml", "terraform.log", "recovery.tfvars.json"]
    {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(!text.contains(fleet.shard.password()), "{file} holds a password");
    }
    assert_eq!(
        fleet.backstop.json(&line).await["instance"],
        report["instance"],
        "asked once more, it says the same"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_is_destroyed_and_what_is_refused_is_never_made() {
    let Some(fleet) = Fleet::start().await else { return };
    fleet.backstop.json("backup orders").await;
    let nothing = || {
        let left = fleet.cloud.left();
        assert_eq!(
            (&left["instances"], &left["volumes"]),
            (&serde_json::json!([]), &serde_json::json!([])),
            "{left}"
        );
    };
    let alone = fleet.line("alone").replace("--join", "--standalone");
    fleet.backstop.run(&alone).await.failed(20, &["--join only"]);
    fleet.backstop.run(&format!("{} --port 3399", fleet.line("port"))).await.failed(20, &["--port"]);
    // The subnet of zone b is said to be that of zone a: Terraform makes a volume before it finds out, if it ever does.
    fleet.configure(|_, _| "eu-central-1a".to_owned()).await;
    fleet.backstop.run(&fleet.line("wrong")).await.failed(20, &["is in eu-central-1a, not in eu-central-1b"]);
    nothing();
    // Corrected, the same command in another directory goes on.
    std::fs::write(fleet.shard.base().join("precious"), "x").unwrap();
    fleet.backstop.run(&fleet.line("")).await.failed(20, &["is not empty"]);
    nothing();
}

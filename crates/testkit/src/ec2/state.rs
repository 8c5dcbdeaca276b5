//! State and behaviour of the EC2 stand-in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Complete state.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ec2State {
    /// Instances, with their volumes.
    pub instances: Vec<Ec2Instance>,
    /// Snapshots, including those that are not listed yet.
    pub snapshots: Vec<Ec2Snapshot>,
    /// Behaviour.
    pub rules: Ec2Behaviour,
    /// Every call that was permitted, dry runs as `DryRun:…`.
    pub calls: Vec<String>,
    pub(super) numbered: u64,
}

/// One instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ec2Instance {
    /// `i-…`.
    pub id: String,
    /// Its region.
    #[serde(default = "region")]
    pub region: String,
    /// Private address.
    #[serde(default)]
    pub private_ip: String,
    /// Private DNS name.
    #[serde(default)]
    pub private_dns: String,
    /// `running`, `stopped`, …
    #[serde(default = "running")]
    pub state: String,
    /// The device of its root volume.
    #[serde(default = "root")]
    pub root_device: String,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Attached volumes.
    #[serde(default)]
    pub volumes: Vec<Ec2Volume>,
}

/// An attached volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ec2Volume {
    /// `vol-…`.
    pub id: String,
    /// `/dev/sdf`.
    pub device: String,
    /// Size in GiB.
    #[serde(default = "eight")]
    pub gibibytes: u32,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Folder or file on this host with the volume's contents.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Type, IOPS and throughput in MiB/s.
    #[serde(default = "gp3")]
    pub performance: (String, u32, u32),
}

/// One snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ec2Snapshot {
    /// `snap-…`.
    pub id: String,
    /// Its region.
    pub region: String,
    /// Volume that it was made from.
    pub volume: String,
    /// Size of that volume in GiB.
    pub gibibytes: u32,
    /// `pending`, `completed` or `error`; `recoverable` in the recycle bin.
    pub state: String,
    /// `standard` or `archive`.
    #[serde(default = "standard")]
    pub tier: String,
    /// Time of its creation.
    pub begun: DateTime<Utc>,
    /// Tags from its creation, and those added later.
    pub tags: BTreeMap<String, String>,
    /// Copy of the volume, if the volume names a folder.
    pub image: Option<PathBuf>,
    /// Number of list requests until it is listed.
    pub hidden: u32,
    /// Number of list requests until it is complete.
    pub looks_left: u32,
}

/// Behaviour of the stand-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ec2Behaviour {
    /// Denied actions, without `ec2:`.
    pub denied: BTreeSet<String>,
    /// Number of times that each action is answered with `RequestLimitExceeded` before it works.
    pub throttled: BTreeMap<String, u32>,
    /// Number of times that each action is answered with `InternalError` after it was carried out.
    pub broken: BTreeMap<String, u32>,
    /// Number of times that each action is carried out and never answered.
    pub unanswered: BTreeMap<String, u32>,
    /// Number of times that each action is refused with `InvalidSnapshot.NotFound`: EC2 does not
    /// know its own snapshot yet.
    pub unknown: BTreeMap<String, u32>,
    /// Maximum number of snapshots.
    pub quota: Option<usize>,
    /// Number of list requests until a new snapshot is listed.
    pub lag: u32,
    /// Entries per page.
    pub page: usize,
    /// Outcome of new snapshots.
    pub completion: Completion,
}

/// Outcome of a new snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completion {
    /// Complete after this many list requests.
    After(u32),
    /// In error after this many list requests.
    Error(u32),
    /// Pending forever.
    Never,
}

impl Default for Ec2Behaviour {
    fn default() -> Self {
        Self {
            denied: BTreeSet::new(),
            throttled: BTreeMap::new(),
            broken: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            unknown: BTreeMap::new(),
            quota: None,
            lag: 0,
            page: 1000,
            completion: Completion::After(1),
        }
    }
}

impl Ec2State {
    /// Adds an instance with a root volume and a volume for MySQL on `/dev/sdf`, which has the
    /// contents of a folder.
    pub fn add_mysql_host(&mut self, id: &str, host: &str, folder: Option<PathBuf>) -> &mut Ec2Instance {
        let volume = |name: &str, device: &str, path| Ec2Volume {
            id: format!("vol-{name}-{}", id.trim_start_matches("i-")),
            device: device.to_owned(),
            gibibytes: 8,
            tags: BTreeMap::new(),
            path,
            performance: gp3(),
        };
        self.instances.push(Ec2Instance {
            id: id.to_owned(),
            region: region(),
            private_ip: String::new(),
            private_dns: String::new(),
            state: running(),
            root_device: root(),
            tags: BTreeMap::from([("MySQL-Host".to_owned(), host.to_owned())]),
            volumes: vec![volume("root", "/dev/xvda", None), volume("data", "/dev/sdf", folder)],
        });
        self.instances.last_mut().expect("an instance")
    }

    /// Returns the ids of the snapshots that are not deleted, oldest first.
    pub fn ids(&self) -> Vec<String> {
        self.snapshots.iter().map(|shot| shot.id.clone()).collect()
    }

    /// Returns a tag of a snapshot.
    pub fn tag(&self, id: &str, key: &str) -> Option<String> {
        self.snapshots.iter().find(|shot| shot.id == id)?.tags.get(key).cloned()
    }

    /// Makes all snapshots look this much older.
    pub fn age(&mut self, seconds: i64) {
        for shot in &mut self.snapshots {
            shot.begun -= chrono::Duration::seconds(seconds);
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// Advances all snapshots by one list request.
    pub(super) fn looked(&mut self) {
        let completion = self.rules.completion;
        for shot in &mut self.snapshots {
            shot.hidden = shot.hidden.saturating_sub(1);
            if shot.state != "pending" {
                continue;
            }
            let end = match completion {
                Completion::After(_) => "completed",
                Completion::Error(_) => "error",
                Completion::Never => continue,
            };
            if shot.looks_left == 0 {
                end.clone_into(&mut shot.state);
            }
            shot.looks_left = shot.looks_left.saturating_sub(1);
        }
    }
}

/// Default region.
pub(super) fn region() -> String {
    "eu-test-1".to_owned()
}

fn running() -> String {
    "running".to_owned()
}

fn root() -> String {
    "/dev/xvda".to_owned()
}

fn eight() -> u32 {
    8
}

pub(super) fn standard() -> String {
    "standard".to_owned()
}

fn gp3() -> (String, u32, u32) {
    ("gp3".to_owned(), 3000, 125)
}

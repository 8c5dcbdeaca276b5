//! What the stand-in knows, and how it misbehaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ec2State {
    /// Instances, with their volumes.
    pub instances: Vec<Ec2Instance>,
    /// Snapshots, also such that are not listed yet.
    pub snapshots: Vec<Ec2Snapshot>,
    /// How it behaves.
    pub rules: Ec2Behaviour,
    /// Every call that was allowed to do something, dry runs as `DryRun:…`.
    pub calls: Vec<String>,
    pub(super) numbered: u64,
}

/// An instance.
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
    /// What is attached.
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
    /// Size.
    #[serde(default = "eight")]
    pub gibibytes: u32,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The folder or file on this host that it stands for.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// A snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ec2Snapshot {
    /// `snap-…`.
    pub id: String,
    /// Its region.
    pub region: String,
    /// The volume it was made from.
    pub volume: String,
    /// Size of that.
    pub gibibytes: u32,
    /// `pending`, `completed` or `error`.
    pub state: String,
    /// When it was begun.
    pub begun: DateTime<Utc>,
    /// What it was created with, and what was added.
    pub tags: BTreeMap<String, String>,
    /// The copy, if the volume names a folder.
    pub image: Option<PathBuf>,
    /// Looks until it is listed.
    pub hidden: u32,
    /// Looks until it is complete.
    pub looks_left: u32,
}

/// How it behaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ec2Behaviour {
    /// Actions that are denied, without `ec2:`.
    pub denied: BTreeSet<String>,
    /// How often each action is answered with `RequestLimitExceeded` before it works.
    pub throttled: BTreeMap<String, u32>,
    /// How often each action is answered with `InternalError` after it was carried out.
    pub broken: BTreeMap<String, u32>,
    /// How often each action is carried out and never answered.
    pub unanswered: BTreeMap<String, u32>,
    /// How often each action is refused with `InvalidSnapshot.NotFound`: EC2 does not know its own snapshot yet.
    pub unknown: BTreeMap<String, u32>,
    /// How many snapshots there may be.
    pub quota: Option<usize>,
    /// Looks at lists until a new snapshot is in them.
    pub lag: u32,
    /// Entries of a page.
    pub page: usize,
    /// What becomes of new snapshots.
    pub completion: Completion,
}

/// What becomes of a new snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completion {
    /// Complete after so many looks.
    After(u32),
    /// In error after so many looks.
    Error(u32),
    /// Pending for good.
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
    /// An instance with a root volume and one for MySQL on `/dev/sdf`, which stands for a folder.
    pub fn add_mysql_host(&mut self, id: &str, host: &str, folder: Option<PathBuf>) -> &mut Ec2Instance {
        let volume = |name: &str, device: &str, path| Ec2Volume {
            id: format!("vol-{name}-{}", id.trim_start_matches("i-")),
            device: device.to_owned(),
            gibibytes: 8,
            tags: BTreeMap::new(),
            path,
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

    /// The ids of the snapshots that are not deleted, oldest first.
    pub fn ids(&self) -> Vec<String> {
        self.snapshots.iter().map(|shot| shot.id.clone()).collect()
    }

    /// A tag of a snapshot.
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

    /// Time passes with every look at the list.
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

/// The region of everything that names none.
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

//! Compares the content of stored objects with fixtures byte by byte: `tests/frozen`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod objects;

use std::sync::Arc;

use backstop_host::{Host, SystemRandom};
use backstop_types::backup::{BackupFacts, Sizes};
use backstop_types::ids::{BackupId, ShardName};
use backstop_types::run_history::RunRecord;
use chrono::{DateTime, Utc};
use object_store::memory::InMemory;
use secrecy::SecretString;
use uuid::Uuid;

use crate::catalog::{CatalogEntry, Condemned, Holder};
use crate::encrypted_store::EncryptedStore;
use crate::encryption::{Cipher, DataKey, hex};
use crate::fixtures::{frozen, kept, lines, parsed, stored, stored_unseen};
use crate::keys::{self, PackId, ShardKeys};
use crate::known_damage::{DamageRecord, DamagedObjectRecord};
use crate::lease::Heartbeat;
use crate::manifest::{DirectoryEntry, FileEntry, Manifest, ObjectRef, Storage};
use crate::object::{FORMAT_VERSION, HEADER_BYTES, MAGIC, ObjectKind, header};
use crate::repo_header::HeaderObject;
use crate::report::GcPlan;
use crate::required_versions::RequiredVersions;
use crate::restore_checkpoint::RestoreCheckpoint;
use crate::run_history::RunsObject;
use crate::shard_log::{Lease, LogEntry, LogEvent, ShardState};
use crate::wrapped_keys::WrappedKey;
use crate::{RepoKey, Repository, every};

/// Value with every field, and one without the optional fields.
const FACTS: &str = include_str!("../../policy/tests/frozen/backup-facts.json");

pub(crate) fn empty_store(cipher: Cipher) -> EncryptedStore {
    EncryptedStore { backend: Arc::new(InMemory::new()), cipher, host: Host::system() }
}

pub(crate) fn keyed() -> Cipher {
    Cipher::Keyed(Arc::new(DataKey::new([7; 32], Arc::new(SystemRandom))))
}

pub(crate) fn shard() -> ShardName {
    "orders".parse().unwrap()
}

pub(crate) fn at() -> DateTime<Utc> {
    "2026-11-23T02:21:33.25Z".parse().unwrap()
}

pub(crate) fn reference(key: &str) -> ObjectRef {
    ObjectRef { key: key.into(), size: 77, digest: "00112233445566778899aabbccddeeff".into() }
}

fn id() -> BackupId {
    "20261123T022133Z-9f3a04c1".parse().unwrap()
}

fn sizes() -> Sizes {
    Sizes { data_bytes: 3, changed_bytes: 2, stored_bytes: 1 }
}

fn entries() -> Vec<CatalogEntry> {
    let entry = |(line, parent): (&str, _)| CatalogEntry {
        facts: parsed::<BackupFacts>(line),
        parent,
        sizes: sizes(),
        manifest: reference("shards/orders/backups/00000000000000000001-1/manifest"),
    };
    FACTS.lines().zip([Some(id()), None]).map(entry).collect()
}

#[test]
fn log_entries_keep_their_json() {
    let holder = Holder {
        host: "backup1".into(),
        machine: "machine".into(),
        boot: "boot".into(),
        pid: 77,
        started: 1234,
        operation: "backup".into(),
        since: at(),
    };
    let adopted = parsed(
        r#"{"at":"2026-11-23T02:21:33Z","servers":["3e11fa47-71ca-11e1-9e33-c80aa9429562"],"gtid_executed":""}"#,
    );
    let whole = ShardState {
        shard: shard(),
        lease: Some(Lease { number: 6, holder }),
        backups: entries(),
        condemned: vec![Condemned { entry: entries().remove(1), at: at() }],
        adopted: Some(adopted),
    };
    let least = ShardState { shard: shard(), lease: None, backups: vec![], condemned: vec![], adopted: None };
    let events = every!(
        LogEvent:
        LogEvent::Lease => LogEvent::Lease,
        LogEvent::Commit { .. } => LogEvent::Commit { backup: id() },
        LogEvent::Condemn { .. } => LogEvent::Condemn { backups: vec![id()] },
        LogEvent::Undo { .. } => LogEvent::Undo { backups: vec![id()] },
        LogEvent::Swept { .. } => LogEvent::Swept { backups: vec![id()] },
        LogEvent::Adopt => LogEvent::Adopt,
        LogEvent::Release => LogEvent::Release,
        LogEvent::Repair { .. } => LogEvent::Repair { backups: vec![id()] },
    );
    let entry = |(at_event, event): (usize, LogEvent)| LogEntry {
        number: 7,
        nonce: Uuid::from_u128(0x1234),
        at: at(),
        event,
        state: if at_event == 0 { whole.clone() } else { least.clone() },
    };
    stored("log-entry.json", &events.into_iter().enumerate().map(entry).collect::<Vec<_>>());
    stored("heartbeat.json", &[Heartbeat { beat: 3, log: 7 }]);
}

#[test]
fn manifests_keep_their_json() {
    let blocks = Storage::Blocks {
        files: vec![
            FileEntry { path: "db/a.ibd".into(), size: 40_000, mode: 0o640, inode: Some(12) },
            FileEntry { path: "db/b.ibd".into(), size: 0, mode: 0o600, inode: None },
        ],
        directories: vec![DirectoryEntry { path: "db".into(), mode: 0o750 }],
        extents: reference("shards/orders/backups/00000000000000000001-1/extents"),
        fingerprints: reference("shards/orders/backups/00000000000000000001-1/fingerprints"),
    };
    let storages = every!(
        Storage:
        Storage::Blocks { .. } => blocks.clone(),
        Storage::Ebs { .. } => Storage::Ebs { snapshot_ids: vec!["snap-1".into()], region: "eu-west-1".into(), volumes: Vec::new() },
    );
    let manifest = |(entry, storage): (CatalogEntry, Storage)| Manifest {
        facts: entry.facts,
        parent: entry.parent,
        sizes: entry.sizes,
        storage,
    };
    stored("manifest.json", &entries().into_iter().zip(storages).map(manifest).collect::<Vec<_>>());
}

#[test]
fn damage_runs_and_sweep_plans_keep_their_json() {
    let damage = DamagedObjectRecord {
        object: "shards/orders/packs/1".into(),
        wrong: "it is missing".into(),
        in_content: true,
        backups: vec![id()],
        at: at(),
    };
    let least = DamagedObjectRecord { in_content: false, backups: vec![], ..damage.clone() };
    let found = DamageRecord { damaged: vec![damage, least], more: 2, more_backups: [id()].into() };
    stored("found.json", &[found, DamageRecord::default()]);
    let read: DamageRecord = parsed(r#"{"damaged":[]}"#);
    assert!(read.is_empty());
    let runs: Vec<RunRecord> =
        include_str!("../../policy/tests/frozen/run.json").lines().map(parsed).collect();
    stored_unseen("runs.json", &[RunsObject { runs }]);
    let plan = GcPlan { lease: 7, objects: vec![("packs/1".into(), 9)], backups: vec![id()] };
    stored("sweep-plan.json", &[plan]);
}

#[test]
fn root_versions_and_wrapped_key_keep_their_json() {
    let root = HeaderObject { repository: Uuid::from_u128(0x1234), data_key: None, needs: None };
    let whole = HeaderObject {
        data_key: Some("00ff".into()),
        needs: Some(RequiredVersions { read: "0.1.0".into(), write: "0.1.0".into() }),
        ..root.clone()
    };
    stored("root.json", &[whole, root]);
    stored("needs.json", &[RequiredVersions { read: "0.1.0".into(), write: "0.2.0".into() }]);
    stored_unseen("wrapped-key.json", &[WrappedKey { wrapped: "00ff".into() }]);
}

/// Names and fingerprints in an encrypted repository, and ids of keys, depend on the keys alone.
#[tokio::test]
async fn derived_names_and_ids_stay_the_same() {
    let mut text = String::new();
    for cipher in [Cipher::Plain, keyed()] {
        let (id, directory, print) =
            (cipher.key_id(), cipher.directory("orders"), cipher.fingerprint(b"a block"));
        text.push_str(&format!("{} {directory} {}\n", hex(&id), hex(&print)));
    }
    let key = RepoKey::parse(&SecretString::from("42".repeat(32))).unwrap();
    let made = empty_store(Cipher::Plain);
    crate::repo_header::create_header(&made, Some(&key)).await.unwrap();
    for directory in keys::KEYS_DIRECTORIES {
        let listed = made.list(directory).await.unwrap();
        text.push_str(&listed.iter().map(|(name, _)| format!("{name}\n")).collect::<String>());
    }
    frozen("from-keys.txt", &text);
    // The golden repositories open a wrapped key; this compares one of each object that creating a
    // repository writes.
    assert!(Repository::on(made.backend.clone(), Some(&key), Host::system()).await.is_ok());
}

#[test]
fn object_names_stay_the_same() {
    let shard = ShardKeys::of_directory("orders");
    let (archive, pack) = (shard.archive(), PackId { lease: 7, number: 0x1_0000_0003 });
    let mut all = vec![
        keys::HEADER_KEY.to_owned(),
        keys::REQUIRED_VERSIONS_DIRECTORY.to_owned(),
        keys::wrapped_keys("00ff")[0].clone(),
        keys::probe("1"),
        shard.base().to_owned(),
        shard.log(7),
        shard.heartbeat(7),
        shard.pack(pack),
        shard.found(),
        archive.leases().log(7),
        archive.leases().heartbeat(7),
        archive.found(),
        archive.entry(7),
        archive.index(7, 9),
        archive.segment(7, 3),
        archive.alive_of(7),
        archive.horizon(7),
    ];
    all.extend(["manifest", "extents", "fingerprints"].map(|part| shard.backup(7, 1, part)));
    all.extend(backstop_types::run_history::Operation::ALL.map(|operation| shard.runs(operation.name())));
    all.extend(shard.lease_directories());
    all.push(archive.aside(7, 9, "00112233445566778899aabbccddeeff"));
    all.push(keys::wrapped_keys("00ff")[1].clone());
    frozen("names.txt", &all.iter().map(|name| format!("{name}\n")).collect::<String>());
}

#[test]
fn object_headers_stay_the_same() {
    let kinds = every!(
        ObjectKind: ObjectKind::Root, ObjectKind::Key, ObjectKind::Log, ObjectKind::Heartbeat,
        ObjectKind::Manifest, ObjectKind::Extents, ObjectKind::Fingerprints, ObjectKind::Pack, ObjectKind::Entry,
        ObjectKind::Segment, ObjectKind::Index, ObjectKind::Horizon, ObjectKind::Alive, ObjectKind::Found,
        ObjectKind::Runs, ObjectKind::Completion
    );
    let headers = kinds
        .into_iter()
        .flat_map(|kind| [header(kind, "a/key", &Cipher::Plain), header(kind, "a/key", &keyed())]);
    let headers: String = headers.map(|header| hex(&header) + "\n").collect();
    frozen("headers.txt", &headers);
    assert_eq!((MAGIC, FORMAT_VERSION, HEADER_BYTES), (b"BACKSTOP", 1, 64));
}

#[test]
fn restore_checkpoint_keeps_its_format() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("restored");
    let mut list = RestoreCheckpoint::open(Some(&path), "a-digest").unwrap();
    [2, 0, 17].into_iter().for_each(|file| list.add(file).unwrap());
    frozen("done-list.txt", &std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, kept("done-list.txt", String::new)).unwrap();
    assert_eq!(*RestoreCheckpoint::open(Some(&path), "a-digest").unwrap().files(), [0, 2, 17].into());
    assert_eq!(lines("done-list.txt")[0], "a-digest");
}

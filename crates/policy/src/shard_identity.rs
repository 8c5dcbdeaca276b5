//! Checks that a server's history is the one to which a shard's name is bound.
//!
//! GTIDs alone do not decide this: a copy of the shard (for tests, for example) shares all of its
//! past. So the server UUIDs count as well.

use std::collections::BTreeSet;

use backstop_types::adopted::Adopted;
use backstop_types::backup::BackupFacts;
use backstop_types::error::{Error, Result};
use backstop_types::finding::Finding;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ServerUuid, ShardName};
use backstop_types::topology::SourceChoice;

/// Histories to which a shard's name is bound: that of its newest backup, and the adopted one.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShardBinding<'a> {
    /// The newest backup.
    pub newest: Option<&'a BackupFacts>,
    /// The history adopted last.
    pub adopted: Option<&'a Adopted>,
}

/// A history that claims a shard's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardHistory<'a> {
    /// Address of the server that reported it.
    pub endpoint: &'a Endpoint,
    /// UUID of that server.
    pub server: ServerUuid,
    /// UUIDs of all members that answered.
    pub servers: BTreeSet<ServerUuid>,
    /// The GTIDs executed by the server.
    pub gtid_executed: &'a GtidSet,
}

impl<'a> From<&'a SourceChoice> for ShardHistory<'a> {
    fn from(choice: &'a SourceChoice) -> Self {
        let server = choice.state.server_uuid;
        Self {
            endpoint: &choice.endpoint,
            server,
            servers: choice.servers.iter().copied().chain([server]).collect(),
            gtid_executed: &choice.state.gtid_executed,
        }
    }
}

impl ShardBinding<'_> {
    /// Checks that a history is the one bound to the shard's name, or that the name is not bound
    /// yet.
    ///
    /// # Errors
    /// Returns [`Kind::Refused`](backstop_types::error::ErrorKind::Refused), naming both, if the history is
    /// another.
    pub fn admit(&self, shard: &ShardName, who: &ShardHistory<'_>) -> Result<()> {
        let Some(newest) = self.newest else { return Ok(()) };
        let told = newest.servers.iter().copied().chain([newest.lineage.server_uuid]);
        let servers = told.chain(newest.gtid_executed.uuids()).collect();
        let of_backup = BoundHistory { servers: &servers, gtid_executed: &newest.gtid_executed };
        let of_adopted =
            self.adopted.map(|one| BoundHistory { servers: &one.servers, gtid_executed: &one.gtid_executed });
        if [Some(of_backup), of_adopted].into_iter().flatten().any(|past| past.is_of(who)) {
            return Ok(());
        }
        Err(stranger(shard, newest, who))
    }

    /// Returns a finding if an admitted history lacks transactions that its server had executed
    /// itself.
    pub fn gone_back(&self, shard: &ShardName, who: &ShardHistory<'_>) -> Option<Finding> {
        let newest = self.newest?;
        let lacks = newest.gtid_executed.subtract(who.gtid_executed).of_uuid(who.server);
        (!lacks.is_empty()).then(|| {
            Finding::warning(
                "history-went-back",
                format!(
                    "{} lacks its own transactions of backup {}: {lacks}; it was reset or set back, and may reuse these \
                     numbers",
                    who.endpoint, newest.backup_id
                ),
                format!("check the missing transactions (`backstop recover {shard} --backup {} --into DIR --standalone`)", newest.backup_id),
            )
        })
    }
}

/// One history to which a name is bound.
struct BoundHistory<'a> {
    servers: &'a BTreeSet<ServerUuid>,
    gtid_executed: &'a GtidSet,
}

impl BoundHistory<'_> {
    /// True if a history continues this one. A history that holds all of this past does, with any
    /// servers: all of them may have been replaced since. A history that holds a part of it has
    /// lost something, or is a copy that diverged; then at least one server must be known.
    fn is_of(&self, who: &ShardHistory<'_>) -> bool {
        let familiar = !self.servers.is_disjoint(&who.servers);
        if self.gtid_executed.is_empty() {
            return familiar;
        }
        let common = !self.gtid_executed.intersect(who.gtid_executed).is_empty();
        self.gtid_executed.is_subset_of(who.gtid_executed) || (common && familiar)
    }
}

fn stranger(shard: &ShardName, newest: &BackupFacts, who: &ShardHistory<'_>) -> Error {
    let BackupFacts { backup_id, source, lineage, gtid_executed, .. } = newest;
    let common = gtid_executed.intersect(who.gtid_executed);
    let relation = if common.is_empty() {
        "they have no transaction in common".to_owned()
    } else {
        format!(
            "it lacks {} of that, and none of its servers is known",
            gtid_executed.subtract(who.gtid_executed)
        )
    };
    Error::refused(format!(
        "{} does not belong to shard {shard}: it is server {} with {}, and the newest backup {backup_id} is of server {} ({}) with \
         {gtid_executed}; {relation}",
        who.endpoint,
        who.server,
        shown(who.gtid_executed),
        lineage.server_uuid,
        source.endpoint
    ))
    .hint(format!(
        "correct the shard's topology or the repository, or give this shard another name; if it is the same shard (rebuilt from a dump, \
         or reset on purpose): `backstop shard adopt {shard}`"
    ))
}

fn shown(set: &GtidSet) -> String {
    if set.is_empty() { "no transaction".to_owned() } else { set.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::backup::{BackupKind, BackupSource, Lineage};
    use backstop_types::freeze::{FreezeMode, FreezeReport};
    use backstop_types::ids::BackupId;
    use backstop_types::topology::Role;
    use chrono::{DateTime, Utc};

    use super::*;

    fn uuid(letter: char) -> String {
        format!("{0}{0}{0}{0}{0}{0}{0}{0}-71ca-11e1-9e33-c80aa9429562", letter.to_ascii_lowercase())
    }

    fn set(text: &str) -> GtidSet {
        "ABCD"
            .chars()
            .fold(text.to_owned(), |text, letter| text.replace(letter, &uuid(letter)))
            .parse()
            .unwrap()
    }

    fn servers(letters: &str) -> BTreeSet<ServerUuid> {
        letters.chars().map(|letter| uuid(letter).parse().unwrap()).collect()
    }

    fn backup(of: char, executed: &str, members: &str) -> BackupFacts {
        let at: DateTime<Utc> = "2026-11-20T23:55:00Z".parse().unwrap();
        let endpoint = Endpoint::new("db1", 3306);
        BackupFacts {
            backup_id: BackupId::new(at, 1),
            shard: "orders".parse().unwrap(),
            kind: BackupKind::OnDemand,
            occasion: None,
            source: BackupSource { endpoint, role: Role::Primary },
            source_reason: String::new(),
            server_version: "9.7.4".parse().unwrap(),
            gtid_executed: set(executed),
            on_timeline: None,
            freeze: FreezeReport { mode: FreezeMode::None, held_ms: 0.0, waited_ms: 0.0 },
            lineage: Lineage {
                server_uuid: uuid(of).parse().unwrap(),
                volume: "clone".to_owned(),
                generation: None,
                mark: None,
            },
            settings: backstop_types::server::RecordedSettings::new(),
            started_at: at,
            taken_at: at,
            seconds: 1.0,
            servers: servers(members).into_iter().collect(),
            members: Vec::new(),
            primary: None,
            findings: Vec::new(),
            broken_tables: Vec::new(),
            events: None,
            plugins: Vec::new(),
        }
    }

    fn admitted(
        newest: &BackupFacts,
        adopted: Option<&Adopted>,
        of: char,
        executed: &str,
        members: &str,
    ) -> Result<()> {
        let endpoint = Endpoint::new("db9", 3306);
        let who = ShardHistory {
            endpoint: &endpoint,
            server: uuid(of).parse().unwrap(),
            servers: servers(members),
            gtid_executed: &set(executed),
        };
        ShardBinding { newest: Some(newest), adopted }.admit(&"orders".parse().unwrap(), &who)
    }

    #[test]
    fn server_that_continues_the_history_is_admitted() {
        let newest = backup('B', "A:1-9", "AB");
        admitted(&newest, None, 'B', "A:1-12", "AB").unwrap();
        admitted(&newest, None, 'C', "A:1-9,C:1-3", "CD").unwrap();
        admitted(&newest, None, 'B', "A:1-7,B:1-2", "BC").unwrap();
        admitted(&newest, None, 'C', "A:1-7,C:1", "CA").unwrap();
        admitted(&backup('A', "", "A"), None, 'A', "A:1", "A").unwrap();
        // A backup from before server UUIDs were recorded: the GTIDs name the servers that wrote.
        admitted(&backup('B', "A:1-9", ""), None, 'C', "A:1-7", "CA").unwrap();
    }

    #[test]
    fn server_of_another_history_is_refused_with_both_named() {
        let newest = backup('B', "A:1-9", "AB");
        let strangers = [('C', "C:1-5", "CD"), ('C', "A:1-7,C:1-5", "CD"), ('C', "", "C"), ('A', "", "A")];
        for (of, executed, members) in strangers {
            let error = admitted(&newest, None, of, executed, members).unwrap_err();
            assert_eq!(error.kind.exit_code(), 20, "{error}");
            assert!(error.message.contains(&uuid(of)) && error.message.contains(&uuid('B')), "{error}");
            assert!(error.hint.unwrap().contains("backstop shard adopt orders"));
        }
        assert!(admitted(&backup('A', "", "A"), None, 'C', "", "C").is_err());
    }

    #[test]
    fn adopted_history_is_admitted_until_another_is_adopted() {
        let newest = backup('B', "A:1-9", "AB");
        let adopt = |members, executed| Adopted {
            at: newest.taken_at,
            servers: servers(members),
            gtid_executed: set(executed),
        };
        admitted(&newest, Some(&adopt("C", "C:1-5")), 'C', "C:1-6", "C").unwrap();
        admitted(&newest, Some(&adopt("C", "")), 'C', "C:1-6", "C").unwrap();
        // Its first backup admits neither a third history nor the previous one.
        let first = backup('C', "C:1-6", "C");
        let adopted = adopt("C", "C:1-5");
        assert!(admitted(&first, Some(&adopted), 'D', "D:1", "D").is_err());
        assert!(admitted(&first, Some(&adopted), 'B', "A:1-12", "AB").is_err());
    }

    #[test]
    fn server_set_back_in_history_is_reported() {
        let newest = backup('A', "A:1-9", "A");
        let told = |executed: &str| {
            let (endpoint, executed) = (Endpoint::new("db1", 3306), set(executed));
            let server = uuid('A').parse().unwrap();
            let who =
                ShardHistory { endpoint: &endpoint, server, servers: servers("A"), gtid_executed: &executed };
            ShardBinding { newest: Some(&newest), adopted: None }.gone_back(&"orders".parse().unwrap(), &who)
        };
        assert!(told("A:1-4").unwrap().what.contains(":5-9"));
        assert_eq!(told("A:1-12"), None);
    }
}

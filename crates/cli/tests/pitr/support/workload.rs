//! A random history of one transaction after the other, with the state after each.

use backstop_adapters::mysql::connection::Connection;
use backstop_testkit::TestMember;
use backstop_types::gtid::{Gtid, GtidSet};
use chrono::{DateTime, Duration, Utc};

use crate::support::random::Random;
use crate::support::recovered_server::ServerState;

const STATEMENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// `original_commit_timestamp` when it is not set.
const UNDEFINED: &str = "SET SESSION original_commit_timestamp = 36028797018963968";

/// The state after a transaction.
#[derive(Debug, Clone)]
pub struct HistoryPoint {
    pub gtid: Gtid,
    /// Executed transactions.
    pub set: GtidSet,
    pub state: ServerState,
    /// Time of the server's clock after it, and before the next one.
    pub after: DateTime<Utc>,
    /// Commit time that the transaction claims, if it claims one.
    pub claims: Option<DateTime<Utc>>,
    /// Statements of the transaction.
    pub did: String,
}

/// A random history of one server.
pub struct RandomHistory<'a> {
    dice: &'a mut Random,
    session: Connection,
    held: GtidSet,
    next: u64,
    /// Number of a transaction that is prepared and not committed.
    prepared: Option<u64>,
    wide: u64,
}

impl<'a> RandomHistory<'a> {
    /// Continues on a server. `next` is a number that no earlier row has.
    pub async fn on(member: &TestMember, dice: &'a mut Random, next: u64) -> Self {
        let mut session = member.root().await;
        session.run("SET SESSION time_zone = '+00:00'").await.unwrap();
        let held = member.gtid_executed().await;
        Self { dice, session, held, next, prepared: None, wide: 0 }
    }

    /// Creates the tables.
    pub async fn begin(&mut self) -> Vec<HistoryPoint> {
        let mut moments = Vec::new();
        for sql in [
            "CREATE DATABASE w",
            "CREATE TABLE w.a (id BIGINT PRIMARY KEY, t VARCHAR(50), n INT)",
            "CREATE TABLE w.b (id BIGINT PRIMARY KEY, t LONGTEXT)",
            "CREATE TABLE w.x (id BIGINT PRIMARY KEY)",
        ] {
            moments.push(self.does(&[sql.to_owned()], None).await);
        }
        moments
    }

    /// Runs some random transactions; at the end nothing is prepared.
    pub async fn some(&mut self, count: usize) -> Vec<HistoryPoint> {
        let mut moments = Vec::new();
        while moments.len() < count || self.prepared.is_some() {
            moments.push(self.one().await);
        }
        moments
    }

    /// Runs an ordinary transaction. As the last one of a history it makes every earlier moment a
    /// time that is known to have passed.
    pub async fn plain(&mut self) -> HistoryPoint {
        self.next += 1;
        let insert = format!("INSERT INTO w.a (id, t, n) VALUES ({}, 'plain', 1)", self.next);
        self.does(&[insert], None).await
    }

    async fn one(&mut self) -> HistoryPoint {
        self.next += 1;
        let id = self.next;
        let insert = format!("INSERT INTO w.a (id, t, n) VALUES ({id}, 'row', {})", self.dice.roll() % 1000);
        if let Some(xid) = self.prepared.take() {
            let end = if self.dice.roll().is_multiple_of(3) { "ROLLBACK" } else { "COMMIT" };
            return self.does(&[format!("XA {end} 'x{xid}'")], None).await;
        }
        match self.dice.roll() % 14 {
            0 => {
                self.wide += 1;
                let column = format!("ALTER TABLE w.a ADD COLUMN c{id} INT DEFAULT {}", self.wide);
                self.does(&[column], None).await
            }
            1 => self.does(&[format!("CREATE TABLE w.s{id} AS SELECT id, n FROM w.a LIMIT 20")], None).await,
            2 => self.does(&["TRUNCATE TABLE w.b".into()], None).await,
            3 => {
                let big = format!("INSERT INTO w.b VALUES ({id}, REPEAT(SHA2({id}, 256), {}))", 30_000);
                self.does(&[big], None).await
            }
            4 => {
                self.prepared = Some(id);
                let xid = format!("'x{id}'");
                let row = format!("INSERT INTO w.x VALUES ({id})");
                let all =
                    [format!("XA START {xid}"), row, format!("XA END {xid}"), format!("XA PREPARE {xid}")];
                self.does(&all, None).await
            }
            5 => {
                let tagged =
                    ["SET gtid_next = 'AUTOMATIC:blue'".into(), insert, "SET gtid_next = 'AUTOMATIC'".into()];
                self.does(&tagged, None).await
            }
            6 => {
                // Only the time in the headers of the events steps: it must not matter.
                let stepped = ["SET timestamp = 1000000000".into(), insert, "SET timestamp = DEFAULT".into()];
                self.does(&stepped, None).await
            }
            7 | 8 => {
                let minutes = (self.dice.roll() % 120) as i64 - 60;
                let claims = self.clock().await + Duration::minutes(minutes);
                let stamp = format!("SET SESSION original_commit_timestamp = {}", claims.timestamp_micros());
                self.does(&[stamp, insert, UNDEFINED.into()], Some(claims)).await
            }
            9 => {
                let compressed = [
                    "SET SESSION binlog_transaction_compression = ON".into(),
                    format!("INSERT INTO w.b VALUES ({id}, REPEAT('compress ', 5000))"),
                    "SET SESSION binlog_transaction_compression = OFF".into(),
                ];
                self.does(&compressed, None).await
            }
            10 => {
                let several = [
                    "START TRANSACTION".into(),
                    insert,
                    format!("INSERT INTO w.b VALUES ({id}, 'with a')"),
                    format!("REPLACE INTO w.x VALUES ({id})"),
                    "COMMIT".into(),
                ];
                self.does(&several, None).await
            }
            11 => self.does(&[format!("CREATE TABLE w.d{id} (id INT PRIMARY KEY, j JSON)")], None).await,
            12 => {
                let change = format!("UPDATE w.a SET n = COALESCE(n, 0) + 1 WHERE id % 3 = {}", id % 3);
                let both = ["START TRANSACTION".into(), change, insert.clone(), "COMMIT".into()];
                self.does(&both, None).await
            }
            _ => self.does(&[insert], None).await,
        }
    }

    /// Runs statements that form one transaction, and records the state.
    async fn does(&mut self, statements: &[String], claims: Option<DateTime<Utc>>) -> HistoryPoint {
        for sql in statements {
            let done = self.session.run_within(sql, STATEMENT_TIMEOUT).await;
            done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let text: String = self.session.one("SELECT @@GLOBAL.gtid_executed").await.unwrap();
        let set: GtidSet = text.parse().unwrap();
        let new = set.subtract(&self.held);
        assert_eq!(new.count(), 1, "one transaction: {statements:?} made {new}");
        self.held = set.clone();
        let state = ServerState::of(&mut self.session).await;
        let (sid, number, _) = new.iter().next().map(|(sid, start, end)| (sid.clone(), start, end)).unwrap();
        let did = statements.join("; ");
        HistoryPoint { gtid: Gtid { sid, number }, set, state, after: self.clock().await, claims, did }
    }

    /// Returns the time of the server's clock.
    async fn clock(&mut self) -> DateTime<Utc> {
        let sql = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)";
        let micros: i64 = self.session.one(sql).await.unwrap();
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    /// Returns a number that no row has.
    pub fn next(&self) -> u64 {
        self.next + 1
    }
}

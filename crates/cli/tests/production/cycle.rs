//! The whole cycle of a production shard: lost in part, switched over, lost as a whole, and rebuilt
//! each time.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use backstop_types::gtid::GtidSet;
use rustix::process::Signal;

use crate::support::application::{Application, ask, assert_verifies};
use crate::support::program::RunningBackstop;
use crate::support::servers::{Production, Server, USER, WAIT_TIMEOUT};
use crate::support::settings;
use crate::support::stored_archive::held;

#[tokio::test(flavor = "multi_thread")]
async fn a_production_shard_survives_loss_after_loss() {
    let Some(shard) = Production::start().await else { return };
    let mut cycle = Cycle::begin(shard).await;
    cycle.lose_a_replica().await;
    let application = cycle.switch_over().await;
    cycle.lose_everything(application).await;
    cycle.live_on().await;
}

/// A shard that is archived.
struct Cycle {
    shard: Production,
    archiver: Option<RunningBackstop>,
    /// Orders whose acknowledgement the application has received; all of them must be booked.
    booked: Vec<u64>,
}

impl Cycle {
    /// Takes the first backup, and makes every commit wait for the archiver.
    async fn begin(mut shard: Production) -> Self {
        assert_verifies(&shard, "db1");
        shard.on("db2").json("init").await;
        shard.on("db2").json("backup orders").await;
        let archiver = shard.on("archive").spawn("archive orders", None);
        shard.server("db1").execute(&["SET PERSIST rpl_semi_sync_source_enabled = ON"]).await;
        let application = Application::start(&shard, "db1", 1);
        application.books(50).await;
        let ran = shard.on("db2").run("check orders").await;
        assert_eq!(ran.status.code(), Some(0), "{ran}");
        Self { shard, archiver: Some(archiver), booked: application.stop() }
    }

    /// Replaces a replica by another host, while the application works.
    async fn lose_a_replica(&mut self) {
        let [db1, db2, db4] = ["db1", "db2", "db4"].map(|host| self.shard.server(host));
        let donor = settings::of(&db2).await;
        let application = self.application("db1");
        db2.lose();
        let report = self.recover(&db4, "--join").await;
        assert_eq!(report["joined"], true, "{report}");
        // No event runs on a replica, however its scheduler is set.
        self.serve(&db4, "event_scheduler = ON\n").await;
        application.books(50).await;
        db4.wait_for(&db1.held().await).await;
        assert_replicates(&db4).await;
        settings::assert_equal(&donor, &settings::of(&db4).await, &settings::OF_A_NEW_HOST);
        self.shard.reconfigure("db2:3306", "db4:3306");
        self.restart_archiver(Signal::TERM).await;
        application.books(20).await;
        self.shard.on("db4").json("backup orders").await;
        self.booked.extend(application.stop());
    }

    /// Makes the rebuilt server the primary by hand. Returns the application that works with it.
    async fn switch_over(&mut self) -> Application {
        let [db1, db3, db4] = ["db1", "db3", "db4"].map(|host| self.shard.server(host));
        promote(&db1, &db4).await;
        self.shard.follow(&db1, "db4").await;
        self.shard.follow(&db3, "db4").await;
        let application = self.application("db4");
        application.books(50).await;
        self.archived(&db4.held().await).await;
        self.restart_archiver(Signal::KILL).await;
        application.books(50).await;
        application
    }

    /// Kills all servers with their disks under load; the first host gets a new primary.
    async fn lose_everything(&mut self, application: Application) {
        let [db1, db3, db4] = ["db1", "db3", "db4"].map(|host| self.shard.server(host));
        let donor = settings::of(&db4).await;
        [&db4, &db1, &db3].into_iter().for_each(Server::lose);
        self.booked.extend(application.stop());
        self.archiver.as_ref().unwrap().signal(Signal::KILL);
        self.recover(&db1, "--as-primary").await;
        self.serve(&db1, "").await;
        self.assert_none_is_missing("db1");
        let whose = self.shard.as_the_server_user(&db1, "SELECT CURRENT_USER()");
        assert_eq!(whose, format!("{USER}@localhost"), "an account on a plugin");
        settings::assert_equal(&donor, &settings::of(&db1).await, &settings::OF_A_NEW_PRIMARY);
        assert_eq!(events(&db1).await, "never=DISABLED,night=ENABLED");
    }

    /// Checks that the shard works as before: written to, archived, backed up and rebuilt from.
    async fn live_on(&mut self) {
        let [db1, db3] = ["db1", "db3"].map(|host| self.shard.server(host));
        self.restart_archiver(Signal::KILL).await;
        db1.execute(&self.shard.grants(&["fix"])).await;
        // Other members are still missing, so that the command ends with 1 all the same.
        self.shard.on("db1").run("check orders --fix --yes").await;
        assert_eq!(db1.value("SELECT @@GLOBAL.rpl_semi_sync_source_enabled").await, "1");
        let application = self.application("db1");
        application.books(20).await;
        self.shard.on("db1").json("backup orders").await;
        application.books(20).await;
        self.booked.extend(application.stop());
        self.recover(&db3, "--join").await;
        self.serve(&db3, "event_scheduler = ON\n").await;
        db3.wait_for(&db1.held().await).await;
        assert_replicates(&db3).await;
        self.assert_none_is_missing("db3");
        assert_eq!(checksums(&db3).await, checksums(&db1).await);
        self.shard.reconfigure(", \"db4:3306\"", "");
        self.shard.reconfigure("candidate = 'db4:3306'", "candidate = 'db3:3306'");
        self.restart_archiver(Signal::TERM).await;
        for line in ["verify orders", "check orders", "status orders"] {
            let ran = self.shard.on("db3").run(line).await;
            assert_eq!(ran.status.code(), Some(0), "{ran}");
        }
    }

    fn application(&self, host: &str) -> Application {
        Application::start(&self.shard, host, self.booked.last().unwrap() + 10)
    }

    /// Ends the archiver by this signal and starts the next one on its host.
    async fn restart_archiver(&mut self, signal: Signal) {
        let archiver = self.archiver.take().unwrap();
        archiver.signal(signal);
        let ran = archiver.end().await;
        assert!(signal == Signal::KILL || ran.status.code() == Some(0), "{ran}");
        assert!(ran.err.matches("archiving from").count() <= 3, "{ran}");
        self.archiver = Some(self.shard.on("archive").spawn("archive orders", None));
    }

    /// Waits until the current line holds this set.
    async fn archived(&self, set: &GtidSet) {
        let begin = Instant::now();
        while !set.is_subset_of(&held(&self.shard.backstop).await) {
            assert!(begin.elapsed() < WAIT_TIMEOUT, "not archived: {set}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Recovers a server on its host.
    async fn recover(&mut self, server: &Server, ending: &str) -> serde_json::Value {
        let (host, into, tls) = (server.host, server.dir.display(), &self.shard.certificates);
        let line = format!(
            "recover orders --to latest {ending} --server-user {USER} --port 3306 --listen {host} --into {into} \
             --set recovery.tls.ca={} --set recovery.tls.cert={} --set recovery.tls.key={}",
            tls.ca().display(),
            tls.certificate(host).display(),
            tls.key(host).display()
        );
        self.shard.on(server.host).json(&line).await
    }

    /// Adds options to a recovered server by hand, and restarts it as its unit would.
    async fn serve(&self, server: &Server, more: &str) {
        let path = server.dir.join("my.cnf");
        let text = std::fs::read_to_string(&path).unwrap();
        let own = format!("\n[mysqld]\n{more}");
        std::fs::write(&path, text + &own).unwrap();
        server.stop().await;
        self.shard.give(server);
        self.shard.run(server).await;
    }

    /// Checks that every acknowledged order exists.
    fn assert_none_is_missing(&self, host: &str) {
        let held = ask(&self.shard, host, "SELECT id FROM shop.orders");
        let held: HashSet<u64> = held.iter().map(|id| id.parse().unwrap()).collect();
        let lost: Vec<&u64> = self.booked.iter().filter(|order| !held.contains(order)).collect();
        assert!(lost.is_empty(), "{} acknowledged orders, lost: {lost:?}", self.booked.len());
        assert_eq!(ask(&self.shard, host, "SELECT @@time_zone"), ["+02:00"]);
    }
}

/// Returns `CHECKSUM TABLE` of every user table.
async fn checksums(server: &Server) -> BTreeMap<String, Option<u64>> {
    backstop_testbed::tables::checksums(&mut server.root().await).await.unwrap()
}

/// Returns the states of the events.
async fn events(server: &Server) -> String {
    let sql =
        "SELECT GROUP_CONCAT(EVENT_NAME, '=', STATUS ORDER BY EVENT_NAME) FROM information_schema.EVENTS";
    server.value(sql).await
}

/// Checks that both threads run, and that only replication writes.
async fn assert_replicates(server: &Server) {
    for (sql, wanted) in [
        ("SELECT SERVICE_STATE FROM performance_schema.replication_connection_status", "ON"),
        ("SELECT SERVICE_STATE FROM performance_schema.replication_applier_status", "ON"),
        ("SELECT @@GLOBAL.super_read_only", "1"),
    ] {
        assert_eq!(server.value(sql).await, wanted, "{sql}: {}", server.log());
    }
}

/// Makes a replica the primary in place of a living one, as its administrators do.
async fn promote(old: &Server, new: &Server) {
    old.execute(&["SET GLOBAL super_read_only = ON", "SET PERSIST rpl_semi_sync_source_enabled = OFF"]).await;
    new.wait_for(&old.held().await).await;
    new.execute(&[
        "STOP REPLICA",
        "RESET REPLICA ALL",
        "SET PERSIST rpl_semi_sync_source_timeout = 4294967295",
        "SET PERSIST rpl_semi_sync_source_enabled = ON",
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL read_only = OFF",
        "ALTER EVENT shop.night ENABLE",
    ])
    .await;
}

//! Judges the status of a shard. It reports "well" only for what it has checked.

use backstop_config::schedule::Schedule;
use backstop_policy::backup_age::freshness;
use backstop_policy::backup_availability::{BackupAvailability, availability_findings};
use backstop_policy::coverage::Coverage;
use backstop_policy::topology::{choose_source, current_primary, fidelity_findings};
use backstop_types::backup::BackupRef;
use backstop_types::finding::Finding;
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::topology::{InstanceState, Member, Role};
use chrono::{DateTime, Utc};

use crate::report::{BackupReport, MemberStatus, ShardStatus, rpo_seconds};
use crate::source_selection::SourceChoiceRules;

/// Everything that was checked of one shard.
pub struct StatusInputs<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// The present time.
    pub now: DateTime<Utc>,
    /// Times at which backups are due.
    pub schedule: Option<&'a Schedule>,
    /// Its backups, oldest first, with their availability.
    pub backups: &'a [(BackupRef, BackupAvailability)],
    /// The report of the newest backup.
    pub last_backup: Option<BackupReport>,
    /// The members' answers, or the reason why they could not be queried.
    pub members: Result<&'a [Member], String>,
    /// Rules for the members that may be backed up.
    pub rules: SourceChoiceRules<'a>,
    /// The recoverable moments.
    pub coverage: Coverage,
    /// True if the shard's binlogs are to be archived.
    pub archived: bool,
    /// Seconds of the primary's commits that are not archived; `None`: unknown, or the archive is
    /// empty.
    pub archive_rpo_seconds: Option<f64>,
    /// Findings about the archive.
    pub archive: Vec<Finding>,
}

impl StatusInputs<'_> {
    /// Returns the status of the shard.
    pub fn status(self) -> ShardStatus {
        let (members, of_members) = self.members();
        let rpo_seconds = self.rpo_seconds();
        let mut findings = vec![self.freshness()];
        findings.extend(availability_findings(self.shard, self.backups));
        findings.extend(of_members);
        if let Ok(members) = &self.members {
            findings.extend(fidelity_findings(self.shard, members, self.archived));
        }
        findings.extend(self.rpo_unknown(rpo_seconds));
        findings.extend(self.nothing_recoverable());
        findings.extend(self.archive);
        findings.extend(self.coverage.findings(self.shard));
        ShardStatus {
            shard: self.shard.clone(),
            last_backup: self.last_backup,
            coverage: self.coverage,
            members,
            rpo_seconds,
            rto_seconds: None,
            findings,
            runs: Vec::new(),
        }
    }

    /// Judges the age of the newest available backup; a lost backup does not count.
    fn freshness(&self) -> Finding {
        let newest = self
            .backups
            .iter()
            .filter(|(_, availability)| !availability.is_lost())
            .map(|(known, _)| known.taken_at);
        let judged = freshness(newest.max(), self.schedule, self.now).finding(self.shard);
        if judged.code == "no-backup" && !self.backups.is_empty() {
            return Finding::problem(
                "no-backup",
                format!("none of the {} backups of shard {} is recoverable", self.backups.len(), self.shard),
                format!("run `backstop backup {}`", self.shard),
            );
        }
        judged
    }

    fn primary(&self) -> Option<(&Endpoint, &InstanceState)> {
        current_primary(self.members.as_ref().ok()?).ok()
    }

    /// Computes the loss in seconds. A backup may be newer than an archive that lags.
    fn rpo_seconds(&self) -> Option<f64> {
        let (_, primary) = self.primary()?;
        let is_there = |availability: &BackupAvailability| {
            !availability.is_lost() && *availability != BackupAvailability::Pending
        };
        let newest = self.backups.iter().rfind(|(_, availability)| is_there(availability));
        let newest = newest.map(|(known, _)| (known.taken_at, &known.gtid_executed));
        let of_backups = rpo_seconds(newest, &primary.gtid_executed, self.now);
        self.archive_rpo_seconds.into_iter().chain(of_backups).min_by(f64::total_cmp)
    }

    fn rpo_unknown(&self, rpo: Option<f64>) -> Option<Finding> {
        if rpo.is_some() {
            return None;
        }
        let shard = self.shard;
        let why = match &self.members {
            Err(why) => why.clone(),
            Ok(members) => match current_primary(members) {
                Err(error) => error.message,
                Ok(_) => "nothing recoverable is stored".to_owned(),
            },
        };
        Some(Finding::problem(
            "rpo-unknown",
            format!("the possible data loss of shard {shard} is unknown: {why}"),
            format!("run `backstop check {shard}`"),
        ))
    }

    /// Returns a finding if nothing is recoverable, or nothing on the shard's current timeline.
    fn nothing_recoverable(&self) -> Option<Finding> {
        if !self.coverage.windows.is_empty() || (self.backups.is_empty() && self.coverage.timeline.is_none())
        {
            return None;
        }
        let shard = self.shard;
        let timeline = self
            .coverage
            .timeline
            .map_or(String::new(), |timeline| format!(" on its current timeline {timeline}"));
        Some(Finding::problem(
            "nothing-recoverable",
            format!("no moment of shard {shard} can be recovered{timeline}"),
            format!("make a backup: `backstop backup {shard}`"),
        ))
    }

    fn members(&self) -> (Vec<MemberStatus>, Vec<Finding>) {
        let Ok(members) = &self.members else { return (Vec::new(), Vec::new()) };
        let SourceChoiceRules { source, on_primary, locking } = self.rules;
        let choice = choose_source(members, source, on_primary, locking);
        let rejected = match &choice {
            Ok(choice) => &choice.rejected,
            Err(none) => &none.rejected,
        };
        let reason = |member: &Member| {
            rejected.iter().find(|one| one.endpoint == member.endpoint).map(|one| one.reason.clone())
        };
        let mut findings = Vec::new();
        if let Err(none) = &choice {
            findings.push(Finding::problem(
                "no-source",
                format!("the next backup of shard {} would have no source: {}", self.shard, none.reason),
                format!("see `backstop check {}`", self.shard),
            ));
        }
        findings.extend(members.iter().filter_map(|member| self.about(member, reason(member))));
        let rows = members.iter().map(|member| self.row(member, reason(member)));
        (rows.collect(), findings)
    }

    fn role(&self, member: &Member) -> Option<Role> {
        member.state.as_ref().ok()?;
        Some(match self.primary() {
            Some((endpoint, _)) if *endpoint == member.endpoint => Role::Primary,
            _ if member.candidate => Role::Candidate,
            _ => Role::Replica,
        })
    }

    fn row(&self, member: &Member, reason: Option<String>) -> MemberStatus {
        let channel = member.state.as_ref().ok().and_then(|state| state.replication.as_ref());
        let replicates = self.role(member) != Some(Role::Primary);
        MemberStatus {
            endpoint: member.endpoint.clone(),
            role: self.role(member),
            candidate: member.candidate,
            lag_seconds: channel
                .filter(|_| replicates)
                .and_then(|channel| channel.lag)
                .map(|lag| lag.as_secs_f64()),
            wrong: reason,
        }
    }

    fn about(&self, member: &Member, reason: Option<String>) -> Option<Finding> {
        let (endpoint, shard) = (&member.endpoint, self.shard);
        let state = match &member.state {
            Ok(state) => state,
            Err(why) => {
                return Some(Finding::problem(
                    "member-down",
                    format!("member {endpoint} {why}"),
                    format!("correct this, or remove it from the members of shard {shard}"),
                ));
            }
        };
        if self.role(member) == Some(Role::Primary) {
            return None;
        }
        // A writable server that does not replicate is another primary; a separate finding reports
        // that.
        let stopped = match &state.replication {
            Some(channel) => !channel.io_running || !channel.sql_running,
            None => state.read_only,
        };
        let delayed = state.replication.as_ref().is_some_and(|channel| !channel.delay.is_zero());
        let unwanted = !self.rules.source.any_replica && !member.candidate;
        if stopped {
            let why = state.replication.as_ref().and_then(|channel| channel.last_error.clone());
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            return Some(Finding::problem(
                "member-not-replicating",
                format!("member {endpoint} does not replicate{why}"),
                "start its replication, or rebuild it",
            ));
        }
        let reason = reason.filter(|_| !delayed && !unwanted)?;
        let what = format!("{endpoint} would not be backed up: {reason}");
        Some(Finding::warning("member-rejected", what, "correct this if it should be used for backups"))
    }
}

#[cfg(test)]
mod tests;

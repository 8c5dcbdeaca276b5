//! Actions of the roles, each asked by a dry run.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::Tag;
use backstop_config::settings::SecretRef;
use backstop_policy::first_day::roles::{Asking, AwsRole, RoleAction, Subject};
use backstop_policy::first_day::{ACTION, AccountAnswer};
use backstop_types::error::Result;
use backstop_types::ids::{BackupId, ServerUuid};

use super::dry_runs::{self, Asked, TrialRecovery};
use super::subjects::{MemberInstance, RECOVERY_TAG, RecoveredInstance, Subjects};
use crate::account_questions::{AccountQuestions, ShardQuestions};
use crate::client::AwsClient;
use crate::ebs::ec2::{EbsSnapshot, Ec2};
use crate::ebs::tags::SnapshotTags;
use crate::ebs::{CLUSTER_TAG, SHARD_TAG};

/// Asks for the actions of the roles that need no resource, each once.
pub(super) async fn of_account(aws: &AwsClient, asked: &AccountQuestions) -> Vec<AccountAnswer> {
    let ec2 = Ec2::new(aws);
    let of_account = |one: &RoleAction| one.asking == Asking::Account;
    let mut wanted: Vec<_> = asked.roles.iter().flat_map(|role| role.actions()).filter(of_account).collect();
    wanted.sort_by_key(|one| one.action);
    wanted.dedup();
    let dry_runs = wanted.iter().map(|one| {
        let work = dry_runs::describe(&ec2, one.action);
        async { (one.action, in_time(asked, one.action, work).await) }
    });
    let told: BTreeMap<_, _> = futures::future::join_all(dry_runs).await.into_iter().collect();
    let mut answers = Vec::new();
    for role in &asked.roles {
        let mut heard = Heard::of(*role);
        for one in role.actions().iter().filter(|one| of_account(one)) {
            if let Some(answer) = told.get(one.action) {
                heard.note(one.action, answer.clone());
            }
        }
        answers.extend(heard.answers());
    }
    answers
}

async fn in_time(asked: &AccountQuestions, action: &str, work: impl Future<Output = Asked>) -> Asked {
    let work = async { Ok(work.await) };
    asked.in_time(&format!("ask for {action}"), work).await.unwrap_or_else(Asked::Unanswered)
}

/// Inputs of the dry runs on a shard's resources.
pub(super) struct ShardActions<'a> {
    pub(super) ec2: &'a Ec2,
    pub(super) asked: &'a AccountQuestions,
    pub(super) one: &'a ShardQuestions,
    pub(super) subjects: &'a Subjects,
    /// Answer to the read of the shard's secret.
    pub(super) secret: Option<Asked>,
}

/// Outcome of finding the subject of a dry run, and of asking.
enum OnSubject {
    /// It was asked.
    Asked(Asked),
    /// There is no such resource yet.
    Missing,
}

impl ShardActions<'_> {
    /// Asks for the actions of the roles on the shard's resources.
    pub(super) async fn ask(&self) -> Vec<AccountAnswer> {
        let mut answers = Vec::new();
        for role in &self.asked.roles {
            let mut heard = Heard::of(*role);
            for one in role.actions() {
                match one.asking {
                    Asking::Account | Asking::With(_) => {}
                    Asking::Never => heard.never.push(one.action),
                    Asking::On(subject) => match self.on(*role, one.action, subject).await {
                        OnSubject::Asked(asked) => heard.note(one.action, asked),
                        OnSubject::Missing => heard.later.push((subject, one.action)),
                    },
                }
            }
            answers.extend(heard.answers().into_iter().map(|answer| answer.of_shard(&self.one.shard)));
        }
        answers
    }

    async fn on(&self, role: AwsRole, action: &'static str, subject: Subject) -> OnSubject {
        let trial = self.trial(role);
        let subjects = self.subjects;
        let recovered = if role == AwsRole::Drill { &subjects.drilled } else { &subjects.recovered };
        match subject {
            Subject::Secret => self.secret.clone().map_or(OnSubject::Missing, OnSubject::Asked),
            Subject::Instance => self.on_members(action).await,
            Subject::ProvenSnapshot | Subject::UnprovenSnapshot => {
                let proven = subject == Subject::ProvenSnapshot;
                let on = if proven { &subjects.proven } else { &subjects.unproven };
                let work = async |on: &EbsSnapshot| {
                    dry_runs::on_snapshot(self.ec2, (role, action), on, &trial).await
                };
                self.found(action, on, work).await
            }
            Subject::Subnet => match &subjects.subnet {
                None => OnSubject::Missing,
                Some((_, subnet)) => {
                    let work = dry_runs::in_subnet(self.ec2, action, subnet, &trial);
                    OnSubject::Asked(in_time(self.asked, action, work).await)
                }
            },
            Subject::Recovery => {
                let work =
                    async |on: &RecoveredInstance| dry_runs::on_recovery(self.ec2, action, on, &trial).await;
                self.found(action, recovered, work).await
            }
        }
    }

    /// Asks on the instance of each member: the tags of each decide. Returns the first answer that
    /// is not good.
    async fn on_members(&self, action: &'static str) -> OnSubject {
        let members = match &self.subjects.members {
            Ok(members) if members.is_empty() => return OnSubject::Missing,
            Ok(members) => members,
            Err(error) => return OnSubject::Asked(Asked::Unanswered(error.clone())),
        };
        for on in members {
            let tags = self.snapshot_tags(on);
            let work = dry_runs::snapshot(self.ec2, action, on, &tags);
            match in_time(self.asked, action, work).await {
                Asked::Allowed => {}
                other => return OnSubject::Asked(other),
            }
        }
        OnSubject::Asked(Asked::Allowed)
    }

    /// Asks on a subject, if it was found.
    async fn found<T>(
        &self,
        action: &str,
        subject: &Result<Option<T>>,
        ask: impl AsyncFn(&T) -> Asked,
    ) -> OnSubject {
        match subject {
            Ok(None) => OnSubject::Missing,
            Ok(Some(found)) => OnSubject::Asked(in_time(self.asked, action, ask(found)).await),
            Err(error) => OnSubject::Asked(Asked::Unanswered(error.clone())),
        }
    }

    /// Returns the tags of a backup of the member. The server is not asked: its identity is zero.
    fn snapshot_tags(&self, on: &MemberInstance) -> BTreeMap<String, String> {
        let settings = &self.one.settings;
        SnapshotTags {
            run: &BackupId::new(self.asked.ctx.host.clock.now(), 0),
            shard: &self.one.shard,
            cluster: &settings.topology.cluster_name(&self.one.shard),
            gtids: &Default::default(),
            source: &on.server,
            server: ServerUuid(Default::default()),
            version: "0.0.0",
            set: on.chosen.as_ref().map_or(1, |chosen| chosen.ids.len()),
            repository: &self.asked.repository.to_string(),
            secret: match &settings.credentials {
                SecretRef::SecretsManager(id) => Some(id),
                _ => None,
            },
            extra: &settings.snapshot.tags,
        }
        .tags()
    }

    /// Returns the tags and the zone of a recovery by this role.
    fn trial(&self, role: AwsRole) -> TrialRecovery {
        let cluster = self.one.settings.topology.cluster_name(&self.one.shard);
        let id = role.trial_recovery();
        let tags = [
            ("Name", format!("{} {id}", self.one.shard)),
            (CLUSTER_TAG, cluster),
            (RECOVERY_TAG, id.to_owned()),
            (SHARD_TAG, self.one.shard.to_string()),
        ];
        let tag = |(key, value): (&str, String)| Tag::builder().key(key).value(value).build();
        let zone = self.subjects.subnet.as_ref().map(|(zone, _)| zone.clone());
        let of_member = || Some(self.subjects.members.as_ref().ok()?.first()?.instance.zone.clone());
        TrialRecovery { tags: tags.map(tag).into(), zone: zone.or_else(of_member).unwrap_or_default() }
    }
}

/// Answers to the actions of one role.
struct Heard {
    role: AwsRole,
    allowed: Vec<&'static str>,
    never: Vec<&'static str>,
    later: Vec<(Subject, &'static str)>,
    others: Vec<AccountAnswer>,
}

impl Heard {
    fn of(role: AwsRole) -> Self {
        Self { role, allowed: Vec::new(), never: Vec::new(), later: Vec::new(), others: Vec::new() }
    }

    fn note(&mut self, action: &'static str, asked: Asked) {
        let policy = self.role.policy();
        match asked {
            Asked::Allowed => self.allowed.push(action),
            Asked::Denied(error) => {
                let todo = match error.hint {
                    Some(hint) => format!("{hint}; the policy is in {policy}"),
                    None => format!("allow {action} as {policy} does"),
                };
                let what = format!("{action} is denied: {}", error.message);
                self.others.push(ACTION.problem(what).todo(todo));
            }
            Asked::Unanswered(error) => {
                let answer = ACTION.not_checked(format!("{action}: {}", error.message));
                self.others.push(match error.hint {
                    Some(hint) => answer.todo(hint),
                    None => answer,
                });
            }
            Asked::CarriedOut => {
                let what = format!("{action}: the endpoint carried out a dry run");
                let todo = "look for the change and undo it: this endpoint is not EC2's";
                self.others.push(ACTION.problem(what).todo(todo));
            }
        }
    }

    fn answers(self) -> Vec<AccountAnswer> {
        let mut answers = self.others;
        if !self.allowed.is_empty() {
            answers.insert(0, ACTION.ok(format!("allowed: {}", self.allowed.join(", "))));
        }
        let mut waiting: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::new();
        for (subject, action) in self.later {
            let (what, todo) = subject.wanted();
            waiting.entry(what).or_insert((todo, Vec::new())).1.push(action);
        }
        for (what, (todo, actions)) in waiting {
            let what = format!("{}: asked on {what}, and there is none", actions.join(", "));
            answers.push(ACTION.later(what, todo));
        }
        if !self.never.is_empty() {
            let what = format!("{}: AWS has no dry run", self.never.join(", "));
            answers.push(ACTION.later(what, "run a drill, which needs it"));
        }
        answers.into_iter().map(|answer| answer.of_role(self.role)).collect()
    }
}

//! A shard's secret, instances, volumes, image, and the actions on its resources.

use std::collections::BTreeSet;

use backstop_policy::first_day::image::is_data_device;
use backstop_policy::first_day::{AccountAnswer, INSTANCE, VOLUMES};
use backstop_types::error::{Error, ErrorKind};

use super::actions::ShardActions;
use super::subjects::{self, MemberInstance, Subjects};
use super::{images, secrets};
use crate::account_questions::{AccountQuestions, ShardQuestions};
use crate::client::AwsClient;
use crate::ebs::ec2::Ec2;

/// Answers about one shard, with the facts that other checks need.
pub(super) struct ShardAnswers {
    pub(super) answers: Vec<AccountAnswer>,
    /// Keys of the volumes that a backup would have.
    pub(super) keys: BTreeSet<String>,
    /// Number of those volumes.
    pub(super) volumes: u64,
}

/// Asks about one shard.
pub(super) async fn ask(aws: &AwsClient, asked: &AccountQuestions, one: &ShardQuestions) -> ShardAnswers {
    let ec2 = Ec2::new(aws);
    let mut answers = Vec::new();
    let secret = match secrets::ask(aws, one, asked).await {
        Some((secret, answer)) => {
            answers.push(answer);
            Some(secret)
        }
        None => None,
    };
    let members = members(&ec2, asked, one, &mut answers).await;
    let keys = members.iter().flat_map(keys).collect();
    let chosen = |member: &MemberInstance| member.chosen.as_ref().map_or(0, |chosen| chosen.ids.len() as u64);
    let volumes = members.iter().map(chosen).max().unwrap_or_default();
    answers.extend(images::ask(&ec2, asked, one, members.first()).await);
    let members = one.members.as_ref().map(|_| members).map_err(Error::clone);
    let subjects = Subjects::find(&ec2, &one.shard, &one.settings, members, asked).await;
    let mut answers: Vec<_> = answers.into_iter().map(|answer| answer.of_shard(&one.shard)).collect();
    let actions = ShardActions { ec2: &ec2, asked, one, subjects: &subjects, secret };
    answers.extend(Box::pin(actions.ask()).await);
    ShardAnswers { answers, keys, volumes }
}

async fn members(
    ec2: &Ec2,
    asked: &AccountQuestions,
    one: &ShardQuestions,
    answers: &mut Vec<AccountAnswer>,
) -> Vec<MemberInstance> {
    let servers = match &one.members {
        Ok(servers) => servers,
        Err(error) => {
            answers.push(INSTANCE.not_checked(format!("the members are not known: {}", error.message)));
            return Vec::new();
        }
    };
    let hint = one.settings.snapshot.volume.as_ref();
    let mut members = Vec::new();
    for server in servers {
        let instance = match subjects::instance(ec2, server, asked).await {
            Ok(instance) => instance,
            Err(error) => {
                answers.push(not_found(&error));
                continue;
            }
        };
        answers.push(INSTANCE.ok(format!("{server} runs on {}, in {}", instance.id, instance.zone)));
        match subjects::with_volumes(ec2, server, instance, hint, asked).await {
            Ok(member) => {
                answers.extend(of_volumes(&member));
                members.push(member);
            }
            Err(error) => answers.push(VOLUMES.not_checked(error.message)),
        }
    }
    members
}

fn not_found(error: &Error) -> AccountAnswer {
    let answer = match error.kind {
        ErrorKind::Refused => INSTANCE.problem(&error.message),
        _ => INSTANCE.not_checked(&error.message),
    };
    match &error.hint {
        Some(hint) => answer.todo(hint),
        None => answer,
    }
}

fn of_volumes(member: &MemberInstance) -> Vec<AccountAnswer> {
    let chosen = match &member.chosen {
        Ok(chosen) => chosen,
        Err(error) => {
            let answer = VOLUMES.problem(&error.message);
            return vec![match &error.hint {
                Some(hint) => answer.todo(hint),
                None => answer,
            }];
        }
    };
    let devices = member.attached.iter().filter(|volume| chosen.ids.contains(&volume.id));
    let devices: Vec<_> = devices.map(|volume| volume.device.as_str()).collect();
    let (good, bad): (Vec<_>, Vec<_>) = devices.into_iter().partition(|device| is_data_device(device));
    let of = &member.instance.id;
    if bad.is_empty() {
        return vec![VOLUMES.ok(format!("{}, attached to {of} as {}", chosen.why, good.join(", ")))];
    }
    let what = format!("{} has MySQL's data on {}", of, bad.join(", "));
    vec![
        VOLUMES
            .problem(what)
            .todo("attach the volumes as /dev/sdf to /dev/sdp, or change the root module of recoveries"),
    ]
}

fn keys(member: &MemberInstance) -> Vec<String> {
    let chosen = member.chosen.as_ref().ok();
    let in_set = |id: &String| chosen.is_none_or(|chosen| chosen.ids.contains(id));
    let volumes = member.attached.iter().filter(|volume| in_set(&volume.id));
    volumes.filter_map(|volume| volume.performance.kms_key_id.clone()).collect()
}

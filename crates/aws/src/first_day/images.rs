//! The image of recoveries, and the instance type that is to run it.

use aws_sdk_ec2::types::{EnaSupport, Image, InstanceType, InstanceTypeInfo};
use backstop_policy::first_day::image::{ImageFacts, InstanceTypeFacts, image_answers};
use backstop_policy::first_day::{AccountAnswer, IMAGE};
use backstop_types::error::Result;

use super::subjects::MemberInstance;
use crate::account_questions::{AccountQuestions, ShardQuestions};
use crate::ebs::ec2::Ec2;
use crate::error::code;

/// Asks about the image that the shard's recoveries would boot.
pub(super) async fn ask(
    ec2: &Ec2,
    asked: &AccountQuestions,
    one: &ShardQuestions,
    member: Option<&MemberInstance>,
) -> Vec<AccountAnswer> {
    let set = |name: &str| {
        let value = one.settings.recovery.as_ref()?.variables.get(name)?;
        value.as_str().map(str::to_owned)
    };
    let of_member = |read: fn(&MemberInstance) -> &String| member.map(read).cloned();
    let id = set("ami_id").or_else(|| of_member(|member| &member.instance.image));
    let kind = set("instance_type").or_else(|| of_member(|member| &member.instance.instance_type));
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        let what = "the image is not known: no recovery.variables.ami_id, and no member's instance was found";
        return vec![IMAGE.not_checked(what)];
    };
    let mut answers = match kind.filter(|kind| !kind.is_empty()) {
        Some(kind) => match instance_type(ec2, &kind, asked).await {
            Ok(Some(kind)) => judged(ec2, asked, &id, Some(&kind)).await,
            Ok(None) => vec![IMAGE.problem(format!("the Region {} has no instance type {kind}", ec2.region))],
            Err(error) => vec![IMAGE.not_checked(error.message)],
        },
        None => judged(ec2, asked, &id, None).await,
    };
    answers.push(IMAGE.later(
        format!("the content of {id}: sshd, cloud-init, Python, the version of mysqld"),
        "run a drill: the role checks it at the first boot",
    ));
    answers
}

async fn judged(
    ec2: &Ec2,
    asked: &AccountQuestions,
    id: &str,
    kind: Option<&InstanceTypeFacts>,
) -> Vec<AccountAnswer> {
    match image(ec2, id, asked).await {
        Ok(Some(image)) => image_answers(&image, kind, asked.ctx.host.clock.now()),
        Ok(None) => vec![IMAGE.problem(format!(
            "{id} does not exist in {}: it was deregistered, or is not shared with this account",
            ec2.region
        ))],
        Err(error) => vec![IMAGE.not_checked(error.message)],
    }
}

async fn image(ec2: &Ec2, id: &str, asked: &AccountQuestions) -> Result<Option<ImageFacts>> {
    let doing = format!("describe {id}");
    let call = ec2.call(&doing, "ec2:DescribeImages");
    let request = ec2.client().describe_images().image_ids(id).include_deprecated(true);
    let work = async {
        match request.include_disabled(true).send().await {
            Ok(found) => Ok(found.images().first().map(image_facts)),
            // https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
            Err(error) if code(&error).is_some_and(|code| code.starts_with("InvalidAMIID")) => Ok(None),
            Err(error) => Err(call.error(&error)),
        }
    };
    asked.in_time(&doing, work).await
}

fn image_facts(image: &Image) -> ImageFacts {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let root = image.root_device_name();
    let mapped = image.block_device_mappings().iter().filter_map(|mapped| mapped.device_name());
    ImageFacts {
        id: text(image.image_id()),
        state: text(image.state().map(|state| state.as_str())),
        architecture: text(image.architecture().map(|kind| kind.as_str())),
        root_device_type: text(image.root_device_type().map(|kind| kind.as_str())),
        ena: image.ena_support() == Some(true),
        boot_mode: image.boot_mode().map(|mode| mode.as_str().to_owned()),
        deprecated_at: image.deprecation_time().and_then(|at| at.parse().ok()),
        devices: mapped.filter(|device| Some(*device) != root).map(str::to_owned).collect(),
    }
}

async fn instance_type(ec2: &Ec2, name: &str, asked: &AccountQuestions) -> Result<Option<InstanceTypeFacts>> {
    let doing = format!("describe {name}");
    let call = ec2.call(&doing, "ec2:DescribeInstanceTypes");
    let request = ec2.client().describe_instance_types().instance_types(InstanceType::from(name));
    let work = async {
        match request.send().await {
            Ok(found) => Ok(found.instance_types().first().map(|info| type_facts(name, info))),
            Err(error) if code(&error) == Some("InvalidInstanceType") => Ok(None),
            Err(error) => Err(call.error(&error)),
        }
    };
    asked.in_time(&doing, work).await
}

fn type_facts(name: &str, info: &InstanceTypeInfo) -> InstanceTypeFacts {
    let supported = info.processor_info().map(|processor| processor.supported_architectures());
    let ena = info.network_info().and_then(|network| network.ena_support());
    InstanceTypeFacts {
        name: name.to_owned(),
        architectures: supported.unwrap_or_default().iter().map(|one| one.as_str().to_owned()).collect(),
        boot_modes: info.supported_boot_modes().iter().map(|mode| mode.as_str().to_owned()).collect(),
        needs_ena: ena == Some(&EnaSupport::Required),
    }
}

//! `check --aws` against moto and against AWS that misbehaves as its pages describe. Each check is
//! made to fail.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{
    ArchitectureValues, BlockDeviceMapping, EbsBlockDevice, InstanceType, ResourceType, Tag, TagSpecification,
};
use aws_sdk_kms::types::GrantOperation;
use backstop_aws::client::AwsClient;
use backstop_aws::first_day::ask_region;
use backstop_aws::{AccountQuestions, ShardQuestions};
use backstop_config::settings::{self, TopologySettings};
use backstop_policy::first_day::roles::AwsRole;
use backstop_policy::first_day::{AccountAnswer, AnswerState, FIRST_DAY_CHECKS};
use backstop_testkit::snapshot_conformance::test_context;
use backstop_types::error::Error;

use crate::moto::Moto;
use crate::support::aws;
use crate::support::misbehaving::{Answer, Misbehaving};

const REGION: &str = "eu-west-1";
const SERVER: &str = "db1.invalid:3306";
const SECRET: &str = r#"{"username": "backstop", "password": "hunter2"}"#;

/// An account that is ready for the first backup.
struct Account {
    _moto: Moto,
    direct: AwsClient,
    proxy: Misbehaving,
    aws: AwsClient,
    image: String,
    key: String,
    configuration: String,
}

impl Account {
    async fn ready() -> Self {
        let moto = Moto::start().await;
        let direct = moto.aws().await;
        let proxy = Misbehaving::before(moto.url.trim_start_matches("http://")).await;
        let aws = aws(&proxy.url, REGION).await;
        let key = key(&direct).await;
        let image = image(&direct).await;
        proxy.answers("DescribeImages", described(&image, "<architecture>x86_64</architecture>"));
        let instance = instance(&direct, SERVER, &image, &key).await;
        snapshot(&direct, &instance).await;
        let secrets = aws_sdk_secretsmanager::Client::new(direct.config());
        secrets.create_secret().name("prod/orders").secret_string(SECRET).send().await.unwrap();
        let configuration = format!(
            "[repository]\nurl = 's3://backups/shards'\nregion = '{REGION}'\nendpoint = '{}'\n\n[shards.orders]\n\
             credentials = {{ secrets_manager = 'prod/orders' }}\ntopology = {{ members = ['{SERVER}'] }}\n\
             snapshot = {{ provider = 'ebs', region = '{REGION}' }}\nretention = {{ keep_all = '48h', daily = 14 }}\n",
            proxy.url
        );
        Self { _moto: moto, direct, proxy, aws, image, key, configuration }
    }

    /// Asks with a changed configuration.
    async fn asked_with(&self, old: &str, new: &str, deadline: Duration) -> Vec<AccountAnswer> {
        assert!(self.configuration.contains(old));
        let text = self.configuration.replacen(old, new, 1);
        let settings = settings::parse(&text, "test").unwrap();
        let (shard, of_shard) = settings.shards.into_iter().next().unwrap();
        let members = match &of_shard.topology {
            TopologySettings::Members { members, .. } => Ok(members.clone()),
            TopologySettings::Orchestrator { .. } => Err(Error::failed("orchestrator does not answer")),
        };
        let one = ShardQuestions { shard, settings: of_shard, members };
        let asked = AccountQuestions {
            shards: Vec::new(),
            roles: AwsRole::ALL.to_vec(),
            repository: settings.repository.url,
            deadline,
            ctx: test_context(),
        };
        ask_region(&self.aws, &asked, &[&one]).await
    }

    async fn asked(&self) -> Vec<AccountAnswer> {
        self.asked_with("", "", Duration::from_secs(60)).await
    }
}

/// Creates a customer managed key with a grant, as EC2 makes one when a volume is attached
/// (<https://docs.aws.amazon.com/ebs/latest/userguide/how-ebs-encryption-works.html>).
async fn key(direct: &AwsClient) -> String {
    let kms = aws_sdk_kms::Client::new(direct.config());
    let made = kms.create_key().send().await.unwrap();
    let key = made.key_metadata().unwrap().arn().unwrap().to_owned();
    let grant = kms.create_grant().key_id(&key).grantee_principal("arn:aws:iam::123456789012:role/ec2");
    grant.operations(GrantOperation::Decrypt).send().await.unwrap();
    key
}

/// Returns an image of moto that fits [`instance`].
async fn image(direct: &AwsClient) -> String {
    let ec2 = aws_sdk_ec2::Client::new(direct.config());
    let known = ec2.describe_images().send().await.unwrap();
    let fits = known.images().iter().find(|image| {
        image.architecture() == Some(&ArchitectureValues::X8664)
            && image.root_device_type().is_some_and(|kind| kind.as_str() == "ebs")
            && image.block_device_mappings().len() <= 1
    });
    fits.unwrap().image_id().unwrap().to_owned()
}

/// Returns EC2's description of an image. Those of moto have no ENA support.
fn described(id: &str, inner: &str) -> Answer {
    let image = format!(
        "<imageId>{id}</imageId><imageState>available</imageState><rootDeviceType>ebs</rootDeviceType>\
         <enaSupport>true</enaSupport>{inner}"
    );
    Answer::Said(
        200,
        format!(
            "<DescribeImagesResponse><imagesSet><item>{image}</item></imagesSet></DescribeImagesResponse>"
        ),
    )
}

async fn instance(direct: &AwsClient, server: &str, image: &str, key: &str) -> String {
    let tags = TagSpecification::builder()
        .resource_type(ResourceType::Instance)
        .tags(Tag::builder().key("MySQL-Host").value(server).build())
        .tags(Tag::builder().key("Cluster-name").value("orders").build())
        .tags(Tag::builder().key("Backstop-Recovery").value("drill-1").build());
    let ebs = EbsBlockDevice::builder().volume_size(10).encrypted(true).kms_key_id(key).build();
    let data = BlockDeviceMapping::builder().device_name("/dev/sdf").ebs(ebs).build();
    let root = EbsBlockDevice::builder().volume_size(8).build();
    let root = BlockDeviceMapping::builder().device_name("/dev/sda1").ebs(root).build();
    let ec2 = aws_sdk_ec2::Client::new(direct.config());
    let started = ec2
        .run_instances()
        .image_id(image)
        .instance_type(InstanceType::T3Micro)
        .min_count(1)
        .max_count(1)
        .tag_specifications(tags.build())
        .set_block_device_mappings(Some(vec![root, data]))
        .send()
        .await
        .unwrap();
    let id = started.instances()[0].instance_id().unwrap().to_owned();
    mounted(direct, &id, "/var/lib/mysql").await;
    id
}

/// Tags the instance's data volume with its mount point.
async fn mounted(direct: &AwsClient, instance: &str, mount: &str) {
    let ec2 = aws_sdk_ec2::Client::new(direct.config());
    let found = ec2.describe_instances().instance_ids(instance).send().await.unwrap();
    let mapped = found.reservations()[0].instances()[0].block_device_mappings().to_vec();
    let data = mapped.iter().find(|one| one.device_name() == Some("/dev/sdf")).unwrap();
    let id = data.ebs().unwrap().volume_id().unwrap();
    let tag = Tag::builder().key("MySQL-Mount").value(mount).build();
    ec2.create_tags().resources(id).tags(tag).send().await.unwrap();
}

/// Makes a snapshot that is tagged as a proven one.
async fn snapshot(direct: &AwsClient, instance: &str) {
    let ec2 = aws_sdk_ec2::Client::new(direct.config());
    let on = aws_sdk_ec2::types::InstanceSpecification::builder().instance_id(instance).build();
    let tags = TagSpecification::builder()
        .resource_type(ResourceType::Snapshot)
        .tags(Tag::builder().key("Backstop-Shard").value("orders").build())
        .tags(Tag::builder().key("Backstop-State").value("proven").build());
    let made = ec2.create_snapshots().instance_specification(on).tag_specifications(tags.build());
    made.send().await.unwrap();
}

fn of(answers: &[AccountAnswer], code: &str, state: AnswerState) -> Vec<String> {
    let fits = answers.iter().filter(|answer| answer.code == code && answer.state == state);
    fits.map(|answer| format!("{} -> {}", answer.what, answer.todo.as_deref().unwrap_or_default())).collect()
}

/// Fails unless one answer of the check has this state and contains these words.
fn finds(answers: &[AccountAnswer], code: &str, state: AnswerState, words: &[&str]) {
    let told = of(answers, code, state);
    let fits = |text: &String| words.iter().all(|word| text.contains(word));
    let of_it: Vec<_> = answers.iter().filter(|answer| answer.code == code).collect();
    assert!(told.iter().any(fits), "{code} {state:?} {words:?}: {of_it:#?}");
    assert!(!answers.iter().any(|answer| answer.what.contains("hunter2")), "a secret is repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_account_has_no_bad_answer_and_is_not_changed() {
    let account = Account::ready().await;
    let answers = account.asked().await;
    let bad: Vec<_> = answers.iter().filter(|answer| answer.state > AnswerState::Warning).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let codes: BTreeSet<_> = answers.iter().map(|answer| answer.code).collect();
    let all: BTreeSet<_> = FIRST_DAY_CHECKS.iter().map(|check| check.code).collect();
    let missing: Vec<_> = all.difference(&codes).collect();
    assert_eq!(missing, [&"aws-repository"], "the command tests the repository itself");
    assert_eq!(account.proxy.changes(), [""; 0], "every action that changes something was a dry run");
    // All actions on resources that exist were asked; an unproven snapshot exists only after a failed run.
    let later = of(&answers, "aws-action", AnswerState::Later).join("\n");
    assert!(
        later.contains("unproven") && later.contains("subnet") && !later.contains("Backstop-Recovery"),
        "{later}"
    );
    let allowed = of(&answers, "aws-action", AnswerState::Ok).join("\n");
    for action in ["CreateSnapshots", "TerminateInstances", "RunInstances", "CreateVolume", "GetSecretValue"]
    {
        assert!(allowed.contains(action), "{action}: {allowed}");
    }
}

/// IAM decides by tags: a dry run without those of the real request would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn dry_runs_carry_the_tags_of_the_real_requests() {
    let account = Account::ready().await;
    let more = "'ebs', tags = { CostCenter = '7' },";
    account.asked_with("'ebs',", more, Duration::from_secs(60)).await;
    let has = |body: &String, key: &str, value: &str| {
        let numbers = 1..20;
        numbers.into_iter().any(|n| {
            body.contains(&format!(".{n}.Key={key}&")) && body.contains(&format!(".{n}.Value={value}"))
        })
    };
    for (action, tags) in [
        (
            "CreateSnapshots",
            &[("Backstop-State", "unproven"), ("Cluster-name", "orders"), ("CostCenter", "7")][..],
        ),
        ("CreateVolume", &[("Backstop-Recovery", "drill-check"), ("Cluster-name", "orders")]),
        ("RunInstances", &[("Backstop-Recovery", "check"), ("Cluster-name", "orders")]),
        ("CreateTags", &[("Backstop-State", "proven")]),
        ("CreateTags", &[("Backstop-Completion", "completed")]),
    ] {
        let bodies = account.proxy.dry_runs(action);
        let whole = |body: &String| tags.iter().all(|(key, value)| has(body, key, value));
        assert!(bodies.iter().any(whole), "{action} {tags:?}: {bodies:#?}");
    }
}

/// A denied action, as EC2 answers it with kilobytes that only AWS can decode
/// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>).
#[tokio::test(flavor = "multi_thread")]
async fn denied_action_is_named_with_its_policy() {
    let account = Account::ready().await;
    let denied = Answer::of_ec2(
        403,
        "UnauthorizedOperation",
        "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to perform: \
         ec2:CreateTags on resource: arn:aws:ec2:eu-west-1::snapshot/* with an explicit deny in a service control \
         policy. Encoded authorization failure message: c2VjcmV0",
    );
    for action in ["CreateSnapshots", "CreateVolume", "DescribeVpcs", "TerminateInstances", "DeleteSnapshot"]
    {
        account.proxy.behaves();
        account.proxy.answers(&format!("DryRun:{action}"), denied.clone());
        let answers = account.asked().await;
        let words =
            [action, "is denied", "service control policy", "ec2:CreateTags", "deploy/terraform/modules/"];
        finds(&answers, "aws-action", AnswerState::Problem, &words);
        assert!(!answers.iter().any(|answer| answer.what.contains("c2VjcmV0")));
    }
    account.proxy.behaves();
    account.proxy.answers("GetSecretValue", Answer::of_json("AccessDeniedException", "not authorized"));
    let answers = account.asked().await;
    finds(&answers, "aws-action", AnswerState::Problem, &["secretsmanager:GetSecretValue is denied"]);
    finds(&answers, "aws-secret", AnswerState::Problem, &["prod/orders"]);
}

/// A throttled request says nothing about permissions
/// (<https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>), and an endpoint that
/// carries a dry run out is not EC2's.
#[tokio::test(flavor = "multi_thread")]
async fn other_answers_are_never_counted_as_allowed() {
    let account = Account::ready().await;
    let throttled = Answer::of_ec2(503, "RequestLimitExceeded", "Request limit exceeded.");
    account.proxy.answers("DryRun:CreateSnapshots", throttled);
    let missing = Answer::of_ec2(400, "InvalidVolume.NotFound", "The volume does not exist.");
    account.proxy.answers("DryRun:DeleteVolume", missing);
    let done =
        Answer::Said(200, "<StopInstancesResponse><requestId>x</requestId></StopInstancesResponse>".into());
    account.proxy.answers("DryRun:StopInstances", done);
    let answers = account.asked_with("", "", Duration::from_secs(5)).await;
    finds(&answers, "aws-action", AnswerState::NotChecked, &["ec2:CreateSnapshots"]);
    finds(&answers, "aws-action", AnswerState::NotChecked, &["ec2:DeleteVolume"]);
    finds(&answers, "aws-action", AnswerState::Problem, &["ec2:StopInstances", "carried out a dry run"]);
    let allowed = of(&answers, "aws-action", AnswerState::Ok).join("\n");
    for action in ["CreateSnapshots", "DeleteVolume", "StopInstances"] {
        assert!(!allowed.contains(action), "{allowed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_services_end_as_not_checked() {
    let account = Account::ready().await;
    account.proxy.answers("*", Answer::Never);
    let begun = Instant::now();
    let answers = account.asked_with("", "", Duration::from_millis(300)).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    for code in ["aws-identity", "aws-action", "aws-secret", "aws-instance", "aws-image"] {
        finds(&answers, code, AnswerState::NotChecked, &[]);
        assert_eq!(of(&answers, code, AnswerState::Ok), [""; 0], "{code}");
    }
    // Only orchestrator hangs.
    account.proxy.behaves();
    let orchestrator = "orchestrator = ['http://127.0.0.1:9'], cluster = 'orders'";
    let members = format!("members = ['{SERVER}']");
    let answers = account.asked_with(&members, orchestrator, Duration::from_secs(60)).await;
    finds(&answers, "aws-instance", AnswerState::NotChecked, &["orchestrator does not answer"]);
    finds(&answers, "aws-action", AnswerState::NotChecked, &["ec2:CreateSnapshots", "orchestrator"]);
    // Only keys hang: https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html
    account.proxy.behaves();
    account.proxy.answers("DescribeKey", Answer::Never);
    let answers = account.asked_with("", "", Duration::from_secs(3)).await;
    finds(&answers, "aws-key", AnswerState::NotChecked, &["timed out after 3s"]);
    account.proxy.behaves();
    account.proxy.answers("ListGrants", Answer::of_json("AccessDeniedException", "not authorized"));
    finds(&account.asked().await, "aws-grant", AnswerState::NotChecked, &["kms:ListGrants"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configuration_is_found() {
    let account = Account::ready().await;
    let within = Duration::from_secs(60);
    let arn = "arn:aws:secretsmanager:us-west-2:210987654321:secret:prod/orders-AbCdEf";
    let answers = account.asked_with("'prod/orders'", &format!("'{arn}'"), within).await;
    finds(&answers, "aws-identity", AnswerState::Warning, &["123456789012", "210987654321"]);
    finds(&answers, "aws-region", AnswerState::Warning, &["us-west-2", REGION]);
    finds(&answers, "aws-secret", AnswerState::Problem, &["no secret of that name"]);
    let closed = format!("http://127.0.0.1:{}", backstop_testkit::member::free_port());
    let answers = account.asked_with(&account.proxy.url, &closed, within).await;
    finds(&answers, "aws-endpoint", AnswerState::Problem, &["s3: cannot connect"]);
    let answers = account.asked_with(&account.proxy.url, "http://nowhere.invalid", within).await;
    finds(&answers, "aws-endpoint", AnswerState::Problem, &["s3: cannot resolve nowhere.invalid"]);
    let answers = account.asked_with(SERVER, "db9.invalid:3306", within).await;
    finds(&answers, "aws-instance", AnswerState::Problem, &["db9.invalid:3306", "MySQL-Host"]);
    let answers = account.asked_with("'ebs',", "'ebs', volume = { device = '/dev/sda1' },", within).await;
    finds(&answers, "aws-volumes", AnswerState::Problem, &["/dev/sda1", "/dev/sdf to /dev/sdp"]);
    let answers = account.asked_with("'ebs',", "'ebs', volume = { tag = 'Role=mysql' },", within).await;
    finds(&answers, "aws-volumes", AnswerState::Problem, &["no volume with tag Role=mysql", "MySQL-Mount"]);
    let answers = account.asked_with("retention = { keep_all = '48h', daily = 14 }", "", within).await;
    finds(&answers, "aws-quota", AnswerState::Warning, &["no retention"]);
    account
        .proxy
        .answers("GetCallerIdentity", Answer::of_sts("InvalidClientTokenId", "The token is invalid."));
    finds(&account.asked().await, "aws-identity", AnswerState::Problem, &["InvalidClientTokenId"]);
    let secrets = aws_sdk_secretsmanager::Client::new(account.direct.config());
    let text = "{\"username\": \"backstop\", \"password\": \"hunter2\", \"pasword\": 1}";
    secrets.put_secret_value().secret_id("prod/orders").secret_string(text).send().await.unwrap();
    finds(&account.asked().await, "aws-secret", AnswerState::Problem, &["pasword"]);
}

/// States of a key (<https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html>).
#[tokio::test(flavor = "multi_thread")]
async fn unusable_keys_are_found() {
    let account = Account::ready().await;
    let kms = aws_sdk_kms::Client::new(account.direct.config());
    // moto takes no ARN for these calls.
    let id = account.key.rsplit('/').next().unwrap();
    finds(&account.asked().await, "aws-key", AnswerState::Ok, &["is enabled", &account.key]);
    let none = Answer::Said(200, r#"{"Grants": [], "Truncated": false}"#.to_owned());
    account.proxy.answers("ListGrants", none);
    finds(&account.asked().await, "aws-grant", AnswerState::Warning, &["has no grant"]);
    kms.disable_key().key_id(id).send().await.unwrap();
    finds(&account.asked().await, "aws-key", AnswerState::Problem, &["is Disabled"]);
    kms.schedule_key_deletion().key_id(id).pending_window_in_days(7).send().await.unwrap();
    finds(
        &account.asked().await,
        "aws-key",
        AnswerState::Problem,
        &["pending deletion", "cancel-key-deletion"],
    );
    account.proxy.answers("DescribeKey", Answer::of_json("NotFoundException", "no such key"));
    finds(&account.asked().await, "aws-key", AnswerState::Problem, &["does not exist"]);
    let own = r#"{"KeyMetadata": {"KeyId": "k", "KeyState": "Enabled", "KeyManager": "AWS"}}"#;
    account.proxy.answers("DescribeKey", Answer::Said(200, own.to_owned()));
    let answers = account.asked().await;
    finds(&answers, "aws-key", AnswerState::Warning, &["AWS's own", "customer managed key"]);
    assert!(!answers.iter().any(|answer| answer.code == "aws-grant"), "its grants are AWS's");
}

/// Ends of an image (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/deregister-ami.html>,
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-deprecate.html>).
#[tokio::test(flavor = "multi_thread")]
async fn unusable_images_are_found() {
    let account = Account::ready().await;
    finds(&account.asked().await, "aws-image", AnswerState::Ok, &[&account.image, "t3.micro"]);
    let gone = Answer::of_ec2(400, "InvalidAMIID.NotFound", "The image id does not exist");
    account.proxy.answers("DescribeImages", gone);
    finds(&account.asked().await, "aws-image", AnswerState::Problem, &["deregistered"]);
    account.proxy.answers("DescribeImages", described("ami-1", "<architecture>arm64</architecture>"));
    finds(&account.asked().await, "aws-image", AnswerState::Problem, &["arm64", "t3.micro"]);
    let old =
        "<architecture>x86_64</architecture><deprecationTime>2025-01-31T00:00:00.000Z</deprecationTime>";
    account.proxy.answers("DescribeImages", described("ami-1", old));
    finds(&account.asked().await, "aws-image", AnswerState::Warning, &["deprecated since 2025-01-31"]);
    account.proxy.behaves();
    finds(&account.asked().await, "aws-image", AnswerState::Problem, &[&account.image, "no ENA support"]);
    let unknown = Answer::of_ec2(400, "InvalidInstanceType", "The type does not exist");
    account.proxy.answers("DescribeInstanceTypes", unknown);
    finds(&account.asked().await, "aws-image", AnswerState::Problem, &["no instance type t3.micro"]);
}

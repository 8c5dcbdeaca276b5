//! Creates the instance of a recovery with Terraform: the user's root module, and a remote state
//! with one key per recovery.

mod events;
#[cfg(test)]
mod frozen;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_config::settings::RecoverySettings;
use backstop_engine::context::RunContext;
use backstop_engine::ports::{CreatedInstance, DestroyProtection, InfrastructureChanges, InstanceSpec};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::command::output;
use crate::subprocess::{Subprocess, SubprocessExit, write_private};
use events::Events;

/// Limit for one run of Terraform.
const TERRAFORM_TIMEOUT: Duration = Duration::from_secs(1800);
/// Option that makes Terraform wait for another run that holds the state.
const STATE_LOCK_TIMEOUT: &str = "-lock-timeout=300s";
/// Limit for reading Terraform's outputs.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(120);

/// A root module for Terraform.
pub struct Terraform {
    settings: RecoverySettings,
    ctx: RunContext,
}

impl Terraform {
    /// Creates an adapter that runs `terraform` for this root module.
    pub fn new(settings: RecoverySettings, ctx: RunContext) -> Self {
        Self { settings, ctx }
    }

    /// Prepares a folder: variables, the backend of the state, and Terraform's own data.
    async fn init(&self, spec: &InstanceSpec, folder: &Path) -> Result<()> {
        make_private(folder).failed(format!("cannot create {}", folder.display()))?;
        write_private(&folder.join("recovery.tfvars.json"), &self.variables(spec).to_string())?;
        write_private(&folder.join("state.tfbackend"), &backend(&self.settings.state, &spec.recovery_id))?;
        let state = folder.join("state.tfbackend");
        let args = ["init", "-input=false", "-no-color", "-reconfigure"].map(OsString::from);
        let ended = self
            .run(
                folder,
                "prepare Terraform",
                args.into_iter().chain([option("-backend-config=", &state)]),
                |_| {},
            )
            .await?;
        if ended.status.success() {
            return Ok(());
        }
        Err(events::terraform_error("prepare Terraform", &folder.join("terraform.log"), &ended.said, &[]))
    }

    /// Plans into `folder/plan`. Refuses a plan that destroys anything: a recovery only adds.
    async fn planned(&self, folder: &Path, lock: &str) -> Result<InfrastructureChanges> {
        let (variables, plan) = (folder.join("recovery.tfvars.json"), folder.join("plan"));
        let args = ["plan", "-input=false", "-no-color", "-json", lock].map(OsString::from);
        let args = args.into_iter().chain([option("-var-file=", &variables), option("-out=", &plan)]);
        let changes = self.events(folder, "plan with Terraform", args).await?.changes;
        if changes.destroy == 0 {
            return Ok(changes);
        }
        Err(Error::refused(format!(
            "cannot apply with Terraform: it would destroy {} resources: {}",
            changes.destroy,
            changes.told.join("; ")
        ))
        .hint("check the changes of the root module since this recovery began"))
    }

    async fn events(
        &self,
        folder: &Path,
        doing: &str,
        args: impl Iterator<Item = OsString>,
    ) -> Result<Events> {
        let mut events = Events::default();
        let reporter = &self.ctx.reporter;
        let ended = self
            .run(folder, doing, args, |line| {
                if let Some(told) = events.take(line) {
                    reporter.remark(&told);
                }
            })
            .await?;
        if ended.status.success() {
            return Ok(events);
        }
        Err(events::terraform_error(doing, &folder.join("terraform.log"), &ended.said, &events.errors))
    }

    async fn run(
        &self,
        folder: &Path,
        doing: &str,
        args: impl Iterator<Item = OsString>,
        told: impl FnMut(&str),
    ) -> Result<SubprocessExit> {
        let root = option("-chdir=", &self.settings.terraform);
        let subprocess = Subprocess {
            doing: doing.to_owned(),
            program: PathBuf::from("terraform"),
            args: std::iter::once(root).chain(args).collect(),
            environment: environment(folder),
            directory: folder.to_owned(),
            log: folder.join("terraform.log"),
            lock: folder.join("terraform.running"),
            deadline: TERRAFORM_TIMEOUT,
            ctx: &self.ctx,
        };
        subprocess.run(told).await
    }

    async fn outputs(&self, folder: &Path) -> Result<CreatedInstance> {
        let mut command = Command::new("terraform");
        command.arg(option("-chdir=", &self.settings.terraform)).args(["output", "-json", "-no-color"]);
        command.envs(environment(folder)).current_dir(folder);
        let said = output(&mut command, OUTPUT_TIMEOUT, "cannot read Terraform's outputs").await?;
        let outputs: BTreeMap<String, TerraformOutput> =
            serde_json::from_str(&said).failed("cannot read Terraform's outputs")?;
        created_instance(&outputs).map_err(|error| {
            let root = self.settings.terraform.display();
            error.hint(format!("see deploy/terraform/examples/recovery for the outputs that {root} needs"))
        })
    }

    /// Returns the user's variables and Backstop's, which the user's cannot replace.
    fn variables(&self, spec: &InstanceSpec) -> Value {
        let mut variables: serde_json::Map<_, _> = self.settings.variables.clone().into_iter().collect();
        let own = json!({
            "recovery_id": spec.recovery_id,
            "shard": spec.shard,
            "primary_availability_zone": spec.primary_zone,
            "availability_zone": spec.zone,
            "subnet_id": spec.subnet,
            "volumes": volumes(spec),
            "protected": spec.protection == DestroyProtection::On,
        });
        variables.extend(own.as_object().cloned().unwrap_or_default());
        Value::Object(variables)
    }
}

/// Returns the volumes to create, by device name, like those that were snapshotted. What a backup
/// did not record is left to the module.
fn volumes(spec: &InstanceSpec) -> BTreeMap<&String, Value> {
    let volume = |(device, id)| {
        let known = spec.volumes.get(device).map(|volume| {
            json!({
                "size_gib": volume.size_gib,
                "type": volume.volume_type,
                "iops": volume.provisioned_iops(),
                "throughput_mib": volume.provisioned_throughput_mib(),
                "kms_key_id": volume.kms_key_id,
                "mount_points": volume.mount_points,
            })
        });
        let mut variables = known.and_then(|known| known.as_object().cloned()).unwrap_or_default();
        variables.retain(|_, value| !value.is_null());
        variables.insert("snapshot_id".to_owned(), json!(id));
        (device, Value::Object(variables))
    };
    spec.snapshots.iter().map(volume).collect()
}

impl Terraform {
    /// Returns the changes that [`Terraform::apply`] would make. Changes nothing and leaves nothing
    /// behind.
    ///
    /// # Errors
    /// Fails if Terraform does, and if it would destroy anything.
    pub async fn plan(&self, spec: &InstanceSpec) -> Result<InfrastructureChanges> {
        let folder = tempfile::tempdir().failed("cannot create a temporary directory")?;
        self.init(spec, folder.path()).await?;
        self.planned(folder.path(), "-lock=false").await
    }

    /// Creates the instance, or continues an interrupted attempt. Refuses to destroy or replace
    /// anything.
    ///
    /// # Errors
    /// As [`Terraform::plan`].
    pub async fn apply(&self, spec: &InstanceSpec) -> Result<CreatedInstance> {
        let folder = &spec.folder;
        self.init(spec, folder).await?;
        self.planned(folder, STATE_LOCK_TIMEOUT).await?;
        let args = ["apply", "-input=false", "-no-color", "-json", STATE_LOCK_TIMEOUT].map(OsString::from);
        let plan = folder.join("plan").into_os_string();
        self.events(folder, "apply with Terraform", args.into_iter().chain([plan])).await?;
        self.outputs(folder).await
    }

    /// Destroys all of it. Resources that are gone are no error.
    ///
    /// # Errors
    /// Fails if Terraform does.
    pub async fn destroy(&self, spec: &InstanceSpec) -> Result<()> {
        let folder = &spec.folder;
        self.init(spec, folder).await?;
        let args = ["destroy", "-input=false", "-auto-approve", "-no-color", "-json", STATE_LOCK_TIMEOUT]
            .map(OsString::from);
        let variables = option("-var-file=", &folder.join("recovery.tfvars.json"));
        self.events(folder, "destroy with Terraform", args.into_iter().chain([variables])).await?;
        Ok(())
    }
}

/// One output, as `terraform output -json` prints it.
#[derive(Deserialize)]
struct TerraformOutput {
    value: Value,
}

fn created_instance(outputs: &BTreeMap<String, TerraformOutput>) -> Result<CreatedInstance> {
    let missing = |name: &str| {
        Error::new(ErrorKind::Usage, format!("cannot read Terraform's output `{name}`: it is missing"))
    };
    let text = |name: &str| {
        let value = outputs.get(name).and_then(|output| output.value.as_str());
        value.map(str::to_owned).ok_or_else(|| missing(name))
    };
    let ids = outputs.get("volume_ids").and_then(|output| output.value.as_array());
    let ids = ids.ok_or_else(|| missing("volume_ids"))?;
    Ok(CreatedInstance {
        server: text("mysql_host")?.parse().context(ErrorKind::Usage, "cannot parse output `mysql_host`")?,
        instance_id: text("instance_id")?,
        volume_ids: ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        inventory: text("ansible_inventory")?,
    })
}

fn environment(folder: &Path) -> Vec<(&'static str, OsString)> {
    vec![
        ("TF_DATA_DIR", folder.join("terraform").into()),
        ("TF_INPUT", "0".into()),
        ("TF_IN_AUTOMATION", "1".into()),
        ("CHECKPOINT_DISABLE", "1".into()),
    ]
}

/// Returns the backend of the state: as configured, locked, under the recovery's own key.
fn backend(state: &BTreeMap<String, String>, recovery_id: &str) -> String {
    let mut all = state.clone();
    let prefix = all.remove("prefix").unwrap_or_else(|| "backstop/recoveries".to_owned());
    all.insert("key".to_owned(), format!("{}/{recovery_id}.tfstate", prefix.trim_matches('/')));
    if !all.contains_key("dynamodb_table") {
        all.entry("use_lockfile".to_owned()).or_insert_with(|| "true".to_owned());
    }
    all.iter().map(|(name, value)| format!("{name} = {}\n", quoted(value))).collect()
}

/// Quotes a string for Terraform's language.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace("${", "$${").replace("%{", "%%{")
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_recovery_has_a_separate_locked_state() {
        let state = BTreeMap::from([("bucket".to_owned(), "a\"${b}".to_owned())]);
        assert_eq!(
            backend(&state, "r-1"),
            "bucket = \"a\\\"$${b}\"\nkey = \"backstop/recoveries/r-1.tfstate\"\nuse_lockfile = \"true\"\n"
        );
        let table = BTreeMap::from([
            ("dynamodb_table".to_owned(), "locks".to_owned()),
            ("prefix".to_owned(), "/x/".to_owned()),
        ]);
        assert_eq!(backend(&table, "r-1"), "dynamodb_table = \"locks\"\nkey = \"x/r-1.tfstate\"\n");
    }

    #[test]
    fn outputs_are_parsed_and_missing_ones_named() {
        let outputs = |text: &str| serde_json::from_str::<BTreeMap<String, TerraformOutput>>(text).unwrap();
        let all = r#"{"mysql_host":{"value":"10.0.0.1:3307"},"instance_id":{"value":"i-1"},
            "volume_ids":{"value":["vol-1"]},"ansible_inventory":{"value":"mysql: {}"}}"#;
        let found = created_instance(&outputs(all)).unwrap();
        assert_eq!((found.server.port, found.volume_ids.as_slice()), (3307, &["vol-1".to_owned()][..]));
        let error = created_instance(&outputs(&all.replace("instance_id", "other"))).unwrap_err();
        assert!(error.kind == ErrorKind::Usage && error.message.contains("`instance_id`"), "{error}");
    }
}

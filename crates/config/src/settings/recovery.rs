//! `recovery` of a shard: creation of an instance from EBS snapshots.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::document::{Node, Value};
use super::table::{TableReader, absolute};
use super::tls::{self, ServerTls};

/// The keys for creating an instance.
const RECOVERY_KEYS: [&str; 6] = ["terraform", "playbook", "subnets", "variables", "state", "configuration"];

/// The variables of the root module that Backstop sets itself.
const RESERVED_VARIABLES: [&str; 7] = [
    "recovery_id",
    "shard",
    "primary_availability_zone",
    "availability_zone",
    "subnet_id",
    "volumes",
    "protected",
];

/// Creation of an instance from EBS snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySettings {
    /// Directory of the Terraform root module that creates it; an absolute path.
    pub terraform: PathBuf,
    /// The Ansible playbook that configures the server on it; an absolute path.
    pub playbook: PathBuf,
    /// The permitted availability zones, each with its subnet. At least one.
    pub subnets: BTreeMap<String, String>,
    /// Further variables of the root module. Not for secrets, since Terraform stores them in its
    /// state.
    pub variables: BTreeMap<String, serde_json::Value>,
    /// Terraform's state: the arguments of its S3 backend except the key, and `prefix`, with which
    /// the keys begin. At least `bucket`.
    pub state: BTreeMap<String, String>,
    /// The configuration file for Backstop on the instance, which a recovery to a moment needs; an
    /// absolute path on this host.
    pub configuration: Option<PathBuf>,
}

/// Reads the creation of an instance from EBS snapshots and the certificate of a recovered server.
/// The first is `None` if the table only has the certificate.
pub(super) fn read_recovery(table: TableReader<'_>) -> (Option<RecoverySettings>, Option<ServerTls>) {
    let tls = tls::read_server_tls(&table);
    if table.has("tls") && RECOVERY_KEYS.iter().all(|key| !table.has(key)) {
        table.finish();
        return (None, tls);
    }
    (instance(table), tls)
}

fn instance(table: TableReader<'_>) -> Option<RecoverySettings> {
    let terraform = table.read("terraform", absolute);
    let terraform = table.required("terraform", terraform, "terraform = \"/etc/backstop/recovery\"");
    let playbook = table.read("playbook", absolute);
    let playbook = table.required("playbook", playbook, "playbook = \"/etc/backstop/recover.yml\"");
    let subnets = table.table_such_as("subnets", "{ eu-central-1b = \"subnet-…\" }").map(|t| t.free(text));
    let subnets = table.required("subnets", subnets, "subnets = { eu-central-1b = \"subnet-…\" }");
    if subnets.as_ref().is_some_and(BTreeMap::is_empty) {
        table.refuse("subnets", "name at least one");
    }
    let variables = table.table("variables").map(|t| t.free(json)).unwrap_or_default();
    if let Some(own) = RESERVED_VARIABLES.iter().find(|own| variables.contains_key(**own)) {
        table.refuse("variables", format!("`{own}` is set by Backstop"));
    }
    let state = table.table_such_as("state", "{ bucket = \"…\" }").map(|t| t.free(text));
    let state = table.required("state", state, "state = { bucket = \"…\", region = \"…\" }");
    if let Some(state) = &state {
        if !state.contains_key("bucket") {
            table.refuse("state", "names no `bucket`: write state = { bucket = \"…\", region = \"…\" }");
        }
        if state.contains_key("key") {
            table.refuse(
                "state",
                "`key` is set by Backstop for each recovery; write `prefix` for a common prefix",
            );
        }
    }
    let configuration = table.read("configuration", absolute);
    table.finish();
    Some(RecoverySettings {
        terraform: terraform?,
        playbook: playbook?,
        subnets: subnets?,
        variables,
        state: state?,
        configuration,
    })
}

/// Returns the text as it is, or any other value in Terraform's text form.
pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) if text.trim().is_empty() => Err("is empty".to_owned()),
        Value::Text(text) => Ok(text.clone()),
        Value::Boolean(value) => Ok(value.to_string()),
        Value::Integer(number) => Ok(number.to_string()),
        _ => Err("expected a string in quotes".to_owned()),
    }
}

fn json(value: &Value) -> Result<serde_json::Value, String> {
    let node = |node: &Node| json(&node.value);
    Ok(match value {
        Value::Text(text) => text.clone().into(),
        Value::Boolean(value) => (*value).into(),
        Value::Integer(number) => i64::try_from(*number).map_err(|_| "is too large".to_owned())?.into(),
        Value::List(items) => items.iter().map(node).collect::<Result<Vec<_>, _>>()?.into(),
        Value::Table(entries) => {
            let entries =
                entries.iter().map(|entry| Ok::<_, String>((entry.key.clone(), node(&entry.node)?)));
            serde_json::Value::Object(entries.collect::<Result<_, _>>()?)
        }
        Value::Other(kind) => return Err(format!("{kind} cannot be passed to Terraform")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(recovery: &str) -> Result<RecoverySettings, String> {
        let text = format!(
            "[repository]\nurl = \"file:///b\"\n[shards.a]\ncredentials = {{ env = \"A\" }}\n\
             topology = {{ members = [\"db1:3306\"] }}\n[shards.a.recovery]\n{recovery}"
        );
        let settings = crate::settings::parse(&text, "b.toml").map_err(|errors| errors.to_string())?;
        Ok(settings.shards.into_values().next().unwrap().recovery.unwrap())
    }

    const ALL: &str = "terraform = \"/r\"\nplaybook = \"/p.yml\"\nsubnets = { eu-1b = \"subnet-1\" }\n\
                       state = { bucket = \"s\", encrypt = true }\n";

    #[test]
    fn all_keys_of_recovery_are_read() {
        let read =
            read(&format!("{ALL}variables = {{ size = 3, ids = [\"a\"], deep = {{ on = true }} }}")).unwrap();
        assert_eq!(read.subnets["eu-1b"], "subnet-1");
        assert_eq!(read.state["encrypt"], "true");
        assert_eq!(read.variables["ids"], serde_json::json!(["a"]));
        assert_eq!(read.variables["deep"], serde_json::json!({"on": true}));
    }

    #[test]
    fn wrong_keys_of_recovery_are_named() {
        for (recovery, words) in [
            ("", "recovery"),
            (&ALL.replace("\"/r\"", "\"r\""), "`r` is not an absolute path"),
            (&ALL.replace("bucket", "basket"), "names no `bucket`"),
            (&ALL.replace("encrypt = true", "key = \"k\""), "`key` is set by Backstop"),
            (&format!("{ALL}variables = {{ subnet_id = \"x\" }}"), "`subnet_id` is set by Backstop"),
            (&format!("{ALL}terafrom = \"/x\""), "terafrom"),
            (&ALL.replace("\"subnet-1\"", "1.5"), "expected a string"),
        ] {
            let errors = read(recovery).unwrap_err();
            assert!(errors.contains(words), "{recovery}: {errors}");
        }
    }
}

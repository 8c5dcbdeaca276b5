//! Compares the files of a recovery beside its journal with `tests/frozen`: their bytes must not
//! change.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use backstop_types::ids::ShardName;

use super::replay::RelaxedSettings;
use super::{CopyAccount, DataSource, LiveMembers, RecoveryRequest, layout};
use crate::fixtures::{frozen, parsed, stored};
use crate::ports::CheckDepth;

#[test]
fn relaxed_settings_keep_stored_form() {
    let text = r#"{"boot":"a-boot","settings":[["sync_binlog","1"]]}"#;
    stored("relaxed.json", &[parsed::<RelaxedSettings>(text)]);
}

#[test]
fn recovery_files_keep_stored_form() {
    let shard: ShardName = "orders".parse().unwrap();
    let request = |into: &str| RecoveryRequest {
        shard: shard.clone(),
        target: "latest".into(),
        backup_id: "20261123T022133Z-9f3a04c1".parse().unwrap(),
        replay: None,
        into: into.into(),
        data: DataSource::Repository,
        port: None,
        listen: None,
        check: CheckDepth::Quick,
        ending: backstop_policy::plan::Ending::Join,
        members: LiveMembers::Refuse,
        server_user: None,
        own: backstop_config::extra_options::ExtraOptions::default(),
        tls: None,
        accept_broken: Vec::new(),
        copy_login: CopyAccount::Leave,
        events: backstop_policy::scheduled_events::EventsSetting::Enable,
    };
    let mut text = String::new();
    for into in ["/srv/new", &format!("/srv/{}", "x".repeat(100))] {
        let start = layout::target_layout(&request(into));
        let files: [&Path; 5] = [
            &start.defaults_file,
            &start.datadir,
            &start.socket,
            &start.log,
            &layout::client_file(&request(into)),
        ];
        files.iter().for_each(|file| text.push_str(&format!("{}\n", file.display())));
    }
    frozen("recovery-files.txt", &text);
}

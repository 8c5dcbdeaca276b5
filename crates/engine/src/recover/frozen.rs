//! What a recovery keeps beside its journal stays what it is, byte for byte: `tests/frozen`.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use backstop_model::ids::ShardName;

use super::replay::Relaxed;
use super::{CopyLogin, DataFrom, MembersThatAnswer, RecoverRequest, server};
use crate::fixtures::{frozen, parsed, stored};
use crate::ports::CheckDepth;

#[test]
fn what_was_relaxed() {
    let text = r#"{"boot":"a-boot","settings":[["sync_binlog","1"]]}"#;
    stored("relaxed.json", &[parsed::<Relaxed>(text)]);
}

#[test]
fn files_of_a_recovery() {
    let shard: ShardName = "orders".parse().unwrap();
    let request = |into: &str| RecoverRequest {
        shard: shard.clone(),
        target: "latest".into(),
        backup_id: "20261123T022133Z-9f3a04c1".parse().unwrap(),
        replay: None,
        into: into.into(),
        data: DataFrom::Repository,
        port: None,
        listen: None,
        check: CheckDepth::Quick,
        ending: backstop_model::plan::Ending::Join,
        members: MembersThatAnswer::Refuse,
        server_user: None,
        own: backstop_model::own_options::OwnOptions::default(),
        tls: None,
        accept_broken: Vec::new(),
        copy_login: CopyLogin::Leave,
        events: backstop_model::events::EventsWish::Enable,
    };
    let mut text = String::new();
    for into in ["/srv/new", &format!("/srv/{}", "x".repeat(100))] {
        let start = server::layout(&request(into));
        let files: [&Path; 5] = [
            &start.defaults_file,
            &start.datadir,
            &start.socket,
            &start.log,
            &server::client_file(&request(into)),
        ];
        files.iter().for_each(|file| text.push_str(&format!("{}\n", file.display())));
    }
    frozen("recovery-files.txt", &text);
}

//! Tests that the variables of a playbook stay the same, byte for byte: `tests/frozen`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_config::credentials::Credentials;
use backstop_engine::ports::PlaybookInputs;
use backstop_testkit::frozen::frozen;
use backstop_testkit::snapshot_conformance;

use super::{Ansible, PlaybookFiles, variables, yaml_literal};

pub(super) fn inputs(folder: PathBuf) -> PlaybookInputs {
    PlaybookInputs {
        inventory: "mysql: {}".into(),
        backup_id: "20261123T022133Z-9f3a04c1".parse().unwrap(),
        gtid_executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap(),
        server_version: "8.0.36".parse().unwrap(),
        recorded: [].into(),
        options: [].into(),
        server_id: 77,
        primary: Some("db1:3306".parse().unwrap()),
        on_host: None,
        folder,
    }
}

#[test]
fn ansible_variables_and_call_keep_stored_form() {
    let settings = |value: &str| [("innodb_page_size".to_owned(), value.to_owned())].into();
    let site = PlaybookInputs {
        recorded: settings("16384"),
        options: settings("4096"),
        ..inputs("/srv/new/.backstop".into())
    };
    let login = "user = 'u'\npassword = 'p'\nreplication_user = 'r'\nreplication_password = '{{ q }}'\n";
    let ansible = Ansible::new(
        "/etc/backstop/recover.yml".into(),
        Credentials::parse(login, "file").unwrap(),
        snapshot_conformance::test_context(),
    );
    frozen(
        "ansible-variables.txt",
        &format!("{}\n{}\n", yaml_literal(&variables(&site)), yaml_literal(&ansible.secrets())),
    );
    let PlaybookFiles { inventory, variables, secrets } =
        PlaybookFiles::in_folder(Path::new("/srv/new/.backstop"));
    let files = PlaybookFiles::in_folder(&site.folder);
    let subprocess = ansible.subprocess(&site, &files, Duration::ZERO);
    let mut text: Vec<String> = [inventory, variables, secrets, subprocess.log, subprocess.lock]
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    text.extend(subprocess.args.iter().map(|argument| argument.display().to_string()));
    text.extend(subprocess.environment.iter().map(|(name, value)| format!("{name}={}", value.display())));
    frozen("ansible-call.txt", &(text.join("\n") + "\n"));
}

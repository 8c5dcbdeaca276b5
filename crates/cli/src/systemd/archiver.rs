//! Systemd service that runs a shard's archiver.

use std::path::{Path, PathBuf};

use backstop_types::ids::ShardName;
use serde::Serialize;

use super::{UNIT_DIR, UnitFile, hardening, path, quoted};

/// Output of `archive --systemd --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiverUnit {
    /// The shard.
    pub shard: ShardName,
    /// The service.
    pub service: UnitFile,
    /// Commands that start the service, once the file is in place.
    pub install: Vec<String>,
}

/// Returns the service. systemd restarts it after every exit; it waits for another archiver that
/// holds the shard.
pub fn archiver_unit(
    shard: &ShardName,
    program: &Path,
    config: &Path,
    options: &[String],
    writes: &[PathBuf],
) -> ArchiverUnit {
    let name = format!("backstop-archive-{shard}");
    let mut command: Vec<String> = vec![path(program), "--config".to_owned(), path(config)];
    command.extend(options.iter().cloned());
    command.extend(["archive", shard.as_str()].map(str::to_owned));
    let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let content = format!(
        "[Unit]\n\
         Description=Backstop: archive the binlog of MySQL shard {shard}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={command}\n\
         Restart=always\n\
         RestartSec=2s\n\
         TimeoutStopSec=150s\n\
         {hardening}\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        command = command.join(" "),
        hardening = hardening(writes),
    );
    ArchiverUnit {
        shard: shard.clone(),
        service: UnitFile { path: Path::new(UNIT_DIR).join(format!("{name}.service")), content },
        install: vec!["systemctl daemon-reload".to_owned(), format!("systemctl enable --now {name}.service")],
    }
}

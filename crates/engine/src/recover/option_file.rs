//! Option file of the recovered server.

use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use backstop_config::option_file::quoted;
use backstop_policy::carried_settings::{
    CarriedSettings, Certificates, DataFiles, Overrides, carry_settings,
};
use backstop_policy::plugins::plugin_options;
use backstop_repo::Manifest;
use backstop_types::error::{Result, ResultExt};
use backstop_types::listen_address::ListenAddress;

use super::volumes::folders_on_volumes;
use super::{DataSource, Recovery, RecoveryDecision, RecoveryRequest, events, layout, tls};
use crate::ports::{MysqldStart, ReadOnly};

/// Phase of a recovered server that an option file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Until the hand-over: on loopback, without replication and events, regardless of how it is
    /// started.
    Recovering,
    /// In service, read-only or not. A joined server replicates whenever it is started.
    Serving(ReadOnly),
}

/// Writes `DIR/my.cnf` and removes the donor's identity from the data directory. The donor's
/// `SET PERSIST` values are among the recorded settings, so its `mysqld-auto.cnf` is moved aside:
/// it would override the option file.
pub(super) async fn configure(
    recovery: &Recovery<'_>,
    manifest: &Manifest,
    decided: &RecoveryDecision,
) -> Result<()> {
    let start = layout::target_layout(&recovery.request);
    for donor in ["auto.cnf", "mysqld-auto.cnf"] {
        move_aside(&start.datadir.join(donor), &recovery.request.into.join(".backstop"))?;
    }
    write(recovery, manifest, decided, Phase::Recovering).await?;
    let Some(user) = &recovery.request.server_user else { return Ok(()) };
    for folder in folders_on_volumes(&recovery.request, manifest)? {
        recovery.mysqld.chown(&folder, user).await?;
    }
    recovery.mysqld.chown(&recovery.request.into, user).await
}

/// Writes the option file of a phase atomically, owned by the user that the server runs as.
pub(super) async fn write(
    recovery: &Recovery<'_>,
    manifest: &Manifest,
    decided: &RecoveryDecision,
    phase: Phase,
) -> Result<()> {
    let start = layout::target_layout(&recovery.request);
    let carried = carried_options(&settings(&recovery.request, manifest));
    let (tls, own) = (tls::copy(recovery).await?, recovery.request.own.text());
    let scheduler = phase == Phase::Serving(ReadOnly::Off) && events::scheduler(recovery, manifest);
    let decided = format!("{}{}", fixed_options(&start, decided), phase_options(decided, phase, scheduler));
    let plugins = plugin_options(&manifest.facts.plugins);
    let text = format!("{carried}{plugins}{tls}{own}{decided}");
    let new = write_new(&start.defaults_file, &text)?;
    if let Some(user) = &recovery.request.server_user {
        recovery.mysqld.chown(&new, user).await?;
    }
    std::fs::rename(&new, &start.defaults_file)
        .failed(format!("cannot write {}", start.defaults_file.display()))
}

/// Returns the donor's settings that a recovered server keeps.
pub(super) fn settings(request: &RecoveryRequest, manifest: &Manifest) -> CarriedSettings {
    let given = Overrides {
        certificates: if request.tls.is_some() { Certificates::Given } else { Certificates::OfItsOwn },
        options: &request.own,
        host: request.listen.as_ref().and_then(ListenAddress::known_to_others),
        data_files: match request.data {
            DataSource::Repository => DataFiles::Restored,
            DataSource::Volumes { .. } => DataFiles::OnVolumes,
        },
    };
    carry_settings(&manifest.facts.settings, given)
}

/// Returns the first options: all that follow override them.
fn carried_options(settings: &CarriedSettings) -> String {
    let mut text = String::from(
        "# Written by `backstop recover` from the settings recorded with the backup.\n[mysqld]\nmysqlx = OFF\nsecure_file_priv = NULL\n",
    );
    for (name, value) in &settings.options {
        let _ = writeln!(text, "{name} = {}", quoted(value));
    }
    for left_out in &settings.left_out {
        let _ = writeln!(text, "# not carried: {} ({})", left_out.name, left_out.reason);
    }
    text
}

/// Returns the options that a recovered server must have, in service too.
fn fixed_options(start: &MysqldStart, decided: &RecoveryDecision) -> String {
    let path = |path: &Path| quoted(&path.display().to_string());
    // Makes a server that root starts with this file alone run as the user that owns its files.
    let user = start.user.as_deref().or(rustix::process::geteuid().is_root().then_some("root"));
    let user = user.map(|user| format!("user = {}\n", quoted(user))).unwrap_or_default();
    format!(
        "\n[mysqld]\n\
         {user}datadir = {}\nsocket = {}\nlog_error = {}\npid_file = {}\n\
         port = {}\nserver_id = {}\n\
         gtid_mode = ON\nenforce_gtid_consistency = ON\n\
         loose_rpl_semi_sync_replica_enabled = OFF\nloose_rpl_semi_sync_source_enabled = OFF\n\
         loose_group_replication_start_on_boot = OFF\n",
        path(&start.datadir),
        path(&start.socket),
        path(&start.log),
        path(&start.datadir.join("mysqld.pid")),
        decided.port,
        decided.server_id
    )
}

/// Returns the options of a phase. They are last in the file, so that they override the others.
/// `scheduler`: enabled events fire.
fn phase_options(decided: &RecoveryDecision, phase: Phase, scheduler: bool) -> String {
    match phase {
        Phase::Recovering => {
            "bind_address = 127.0.0.1\nskip_replica_start = ON\nsuper_read_only = ON\nevent_scheduler = OFF\n\
                              loose_innodb_buffer_pool_load_at_startup = OFF\n"
                .to_owned()
        }
        Phase::Serving(read_only) => {
            let listen = decided.listen.as_ref().map_or("127.0.0.1".to_owned(), ToString::to_string);
            let super_read_only = if read_only == ReadOnly::Super { "ON" } else { "OFF" };
            let scheduler = if scheduler { "ON" } else { "OFF" };
            format!(
                "bind_address = {listen}\nskip_replica_start = OFF\nsuper_read_only = {super_read_only}\nevent_scheduler = {scheduler}\n"
            )
        }
    }
}

fn move_aside(file: &Path, aside: &Path) -> Result<()> {
    let Some(name) = file.file_name() else { return Ok(()) };
    let to = aside.join(format!("{}.donor", name.to_string_lossy()));
    let moved = match std::fs::rename(file, &to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => copy_and_remove(file, &to),
        moved => moved,
    };
    match moved {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).failed(format!("cannot move {} to {}", file.display(), to.display()))
        }
        _ => Ok(()),
    }
}

/// Moves a file from a data directory that is a mounted volume. A repeated run copies it again.
fn copy_and_remove(file: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(file, to)?;
    std::fs::File::open(to)?.sync_all()?;
    std::fs::remove_file(file)
}

/// Writes the replacement of a file beside it, durably, and returns its path.
fn write_new(path: &Path, text: &str) -> Result<PathBuf> {
    use std::io::Write as _;
    let what = format!("cannot write {}", path.display());
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o640).open(&new);
    let mut file = file.failed(&what)?;
    file.write_all(text.as_bytes()).failed(&what)?;
    file.sync_all().failed(&what)?;
    Ok(new)
}

//! From settings to the objects that the stories use. The only place that knows every adapter.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop_adapters::backup_instances::LocalBackupInstances;
use backstop_adapters::mysql::admin_session::MysqlAdminAccess;
use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_adapters::mysql::source_settings::MysqlInspector;
use backstop_adapters::topology::{Orchestrator, OrchestratorTarget, StaticMembers};
use backstop_engine::archive::{Encryption, ShardArchive};
use backstop_engine::context::RunContext;
use backstop_engine::ports::{BackupInstances, Topology};
use backstop_engine::shard_dir;
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_model::credentials::Credentials;
use backstop_model::error::{Error, ErrorKind, Result};
use backstop_model::ids::ShardName;
use backstop_model::settings::{
    CreateRepository, Document, ProviderSetting, RepositorySettings, RepositoryUrl, Settings, ShardSettings,
    SnapshotSettings, TopologySettings,
};
use backstop_repo::{ArchiveReader, Location, RepoKey, Repository, S3Access};

use crate::aws::{self, AwsVolumes};
use crate::secrets;

/// Where a configuration is looked for when none is named.
pub const DEFAULT_FILES: [&str; 2] = ["backstop.toml", "/etc/backstop/backstop.toml"];

/// Checked settings, and the surroundings of the stories.
pub struct App {
    /// The settings.
    pub settings: Settings,
    /// The file they came from, if there was one.
    pub file: Option<PathBuf>,
    /// Time, reporter, stop.
    pub ctx: RunContext,
}

impl App {
    /// The shards a command without an argument works on, or the named one.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when no such shard is configured, naming those that are.
    pub fn shards(&self, name: Option<&ShardName>) -> Result<Vec<ShardName>> {
        match name {
            Some(name) => self.shard(name).map(|_| vec![name.clone()]),
            None => Ok(self.settings.shards.keys().cloned().collect()),
        }
    }

    /// A shard's settings.
    ///
    /// # Errors
    /// As [`App::shards`].
    pub fn shard(&self, name: &ShardName) -> Result<&ShardSettings> {
        self.settings.shards.get(name).ok_or_else(|| {
            let known: Vec<_> = self.settings.shards.keys().map(ShardName::as_str).collect();
            let hint = match known.as_slice() {
                [] => "add a table [shards.NAME] to the configuration".to_owned(),
                known => format!("configured are: {}", known.join(", ")),
            };
            Error::new(ErrorKind::Usage, format!("shard `{name}` is not configured")).hint(hint)
        })
    }

    /// The repository, which must be there.
    ///
    /// # Errors
    /// As [`Repository::open`], and when a secret cannot be read.
    pub async fn repository(&self) -> Result<Repository> {
        let (location, key) = self.place()?;
        let there = Location { create: CreateRepository::Never, ..location };
        Repository::open(&there, key.as_ref()).await
    }

    /// The repository for a command whose claim makes it where the configuration lets it.
    ///
    /// # Errors
    /// As [`App::repository`].
    pub async fn repository_or_new(&self) -> Result<Repository> {
        let (location, key) = self.place()?;
        Repository::open(&location, key.as_ref()).await
    }

    /// The repository, or a place for one: for `check`, which says what is missing.
    ///
    /// # Errors
    /// As [`App::repository`], but for a repository that is not there.
    pub async fn repository_if_any(&self) -> Result<Repository> {
        let (location, key) = self.place()?;
        match Repository::open(&location, key.as_ref()).await {
            Err(error) if error.kind == ErrorKind::NotRecoverable => {
                let place = Location { create: CreateRepository::IfEmpty, id: None, ..location };
                Repository::open(&place, key.as_ref()).await
            }
            opened => opened,
        }
    }

    /// Makes the repository if there is none. True if it was made now.
    ///
    /// # Errors
    /// As [`Repository::init`], and when a secret cannot be read.
    pub async fn make_repository(&self) -> Result<(Repository, bool)> {
        let (location, key) = self.place()?;
        Repository::init(&location, key.as_ref()).await
    }

    /// Where the repository is, and its key.
    fn place(&self) -> Result<(Location, Option<RepoKey>)> {
        let settings = &self.settings.repository;
        let key = match &settings.encryption_key {
            Some(reference) => Some(RepoKey::parse(&secrets::resolve(reference)?)?),
            None => None,
        };
        Ok((location(settings)?, key))
    }

    /// A shard's credentials.
    ///
    /// # Errors
    /// As [`secrets::credentials`].
    pub fn credentials(&self, shard: &ShardSettings) -> Result<Credentials> {
        secrets::credentials(&shard.credentials)
    }

    /// A shard's credentials for what lives long: they are read again when a server refuses them.
    ///
    /// # Errors
    /// As [`App::credentials`].
    pub fn shared_credentials(&self, shard: &ShardSettings) -> Result<Arc<SharedCredentials>> {
        let reference = shard.credentials.clone();
        Ok(Arc::new(SharedCredentials::new(move || secrets::credentials(&reference), self.ctx.clone())?))
    }

    /// Who is in the shard.
    ///
    /// # Errors
    /// When the credentials cannot be read, and as [`Orchestrator::new`].
    pub fn topology(&self, shard: &ShardSettings) -> Result<Box<dyn Topology>> {
        self.topology_of(shard, &self.shared_credentials(shard)?)
    }

    /// The members of the shard, whose servers are logged in to like this.
    ///
    /// # Errors
    /// As [`Orchestrator::new`].
    pub fn topology_of(
        &self,
        shard: &ShardSettings,
        access: &Arc<SharedCredentials>,
    ) -> Result<Box<dyn Topology>> {
        let connector = Connector::of(Arc::clone(access));
        let credentials = access.current();
        Ok(match &shard.topology {
            TopologySettings::Members { members, candidate } => {
                Box::new(StaticMembers::new(connector, members.clone(), candidate.clone()))
            }
            TopologySettings::Orchestrator { urls, cluster } => Box::new(Orchestrator::new(
                &OrchestratorTarget {
                    urls,
                    cluster,
                    access: &credentials.orchestrator,
                    max_lag: shard.source.max_lag,
                },
                connector,
                self.ctx.clone(),
            )?),
        })
    }

    /// Opens the shard's instances: on this host, or anywhere if their volumes are EBS. Each shard of a repository has a folder of its own in
    /// the work directory: what a dead run left is cleared with the help of the server it was made from.
    ///
    /// # Errors
    /// When the credentials cannot be read, and as [`aws::backup_instances`].
    pub async fn backup_instances(
        &self,
        name: &ShardName,
        shard: &ShardSettings,
        repository: &Repository,
    ) -> Result<Box<dyn BackupInstances>> {
        if shard.snapshot.provider == ProviderSetting::Ebs {
            return aws::backup_instances(self, name, shard).await;
        }
        let old = shard_dir::old_shard_dir(&shard.snapshot.work_dir, name);
        // Where there is no repository yet, its first backup is about to make it.
        let work_dir = match repository.id() {
            Some(id) => shard_dir::shard_dir(&shard.snapshot.work_dir, name, id),
            None => old.clone(),
        };
        Ok(Box::new(LocalBackupInstances {
            connector: Connector::new(&self.credentials(shard)?),
            freeze: shard.freeze.clone(),
            snapshot: SnapshotSettings { work_dir, ..shard.snapshot.clone() },
            old_work_dir: Some(old),
            servers: Arc::new(self.mysqld()),
            ctx: self.ctx.clone(),
        }))
    }

    /// The EBS snapshots that a shard's backups may be kept in. The shard need not be configured.
    pub fn volumes(&self, name: &ShardName) -> AwsVolumes {
        let settings = self.settings.shards.get(name).map(|shard| shard.snapshot.clone());
        AwsVolumes::new(settings.unwrap_or_default(), self.ctx.clone())
    }

    /// A shard's archive, and how it is to be made.
    pub fn shard_archive<'a>(&self, shard: &'a ShardSettings, reader: ArchiveReader) -> ShardArchive<'a> {
        ShardArchive { settings: shard.archive.as_ref(), reader, encryption: self.encryption() }
    }

    /// Whether what is stored is encrypted.
    pub fn encryption(&self) -> Encryption {
        match self.settings.repository.encryption_key {
            Some(_) => Encryption::On,
            None => Encryption::Off,
        }
    }

    /// Asks primaries for the settings that their archives depend on.
    ///
    /// # Errors
    /// When the credentials cannot be read.
    pub fn inspector(&self, shard: &ShardSettings) -> Result<MysqlInspector> {
        Ok(MysqlInspector::new(Connector::new(&self.credentials(shard)?)))
    }

    /// Asks any server how it is, as the shard's members are asked.
    ///
    /// # Errors
    /// When the credentials cannot be read.
    pub fn server_probe(&self, shard: &ShardSettings) -> Result<StaticMembers> {
        Ok(StaticMembers::new(Connector::new(&self.credentials(shard)?), Vec::new(), None))
    }

    /// Starts servers.
    pub fn mysqld(&self) -> LocalMysqld {
        LocalMysqld::new(&self.settings.mysql.server, Arc::clone(&self.ctx.reporter))
    }

    /// Administers recovered servers.
    ///
    /// # Errors
    /// When the credentials cannot be read.
    pub fn admin_access(&self, shard: &ShardSettings) -> Result<MysqlAdminAccess> {
        Ok(MysqlAdminAccess::new(self.shared_credentials(shard)?))
    }
}

/// What was given by flags, for the settings.
#[derive(Debug, Default)]
pub struct SettingOverrides {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--set key.path=value` and its shorthands: key, value, the flag as written.
    pub overrides: Vec<(String, String, String)>,
}

/// Reads the configuration: the file, then `BACKSTOP_…` variables, then flags.
///
/// # Errors
/// [`ErrorKind::Usage`] with every fault, each with its line or the flag or variable that gave it.
pub fn load_settings(given: &SettingOverrides) -> Result<(Settings, Option<PathBuf>)> {
    let file = match &given.file {
        Some(file) => Some(file.clone()),
        None => DEFAULT_FILES.iter().map(PathBuf::from).find(|file| file.is_file()),
    };
    let mut document = match &file {
        Some(file) => Document::read(&read_config(file)?, &file.display().to_string()),
        None => Document::empty(),
    };
    document.set_from_environment(environment());
    for (key, value, flag) in &given.overrides {
        let key: Vec<&str> = key.split('.').collect();
        document.set(&key, value, flag);
    }
    match document.settings() {
        Ok(settings) => Ok((settings, file)),
        Err(errors) if file.is_none() => {
            let error = Error::from(errors);
            Err(error.hint(format!("write {} or name a file with --config", DEFAULT_FILES.join(" or "))))
        }
        Err(errors) => Err(errors.into()),
    }
}

fn environment() -> Vec<(String, String)> {
    let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(ours).filter(|(name, _)| name.starts_with("BACKSTOP_")).collect()
}

fn read_config(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        let message = format!("read configuration {}: {error}", file.display());
        Error::new(ErrorKind::Usage, message).hint("name another file with --config")
    })
}

fn location(settings: &RepositorySettings) -> Result<Location> {
    let RepositorySettings { create, id, .. } = *settings;
    let s3 = match &settings.url {
        RepositoryUrl::File { path } => {
            return Ok(Location { create, id, ..Location::new(format!("file://{}", path.display())) });
        }
        RepositoryUrl::S3(s3) => s3,
    };
    let credentials = s3.credentials.as_ref().map(secrets::store_credentials).transpose()?;
    let url = format!("s3://{}/{}", s3.bucket, s3.prefix);
    let mut access =
        S3Access { endpoint: s3.endpoint.clone(), region: s3.region.clone(), ..S3Access::default() };
    if let Some(credentials) = credentials {
        access.access_key_id = Some(credentials.access_key_id);
        access.secret_access_key = Some(credentials.secret_access_key);
        access.session_token = credentials.session_token;
    }
    Ok(Location { url, s3: access, create, id })
}

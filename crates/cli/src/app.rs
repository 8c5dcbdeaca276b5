//! Builds the objects of the operations from the settings. The only file that knows every adapter.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use backstop_adapters::backup_instances::LocalBackupInstances;
use backstop_adapters::mysql::admin_session::MysqlAdminAccess;
use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_adapters::mysql::source_settings::MysqlInspector;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_adapters::topology::{Orchestrator, OrchestratorTarget, StaticMembers};
use backstop_aws::AwsVolumes;
use backstop_config::credentials::Credentials;
use backstop_config::settings::{
    Document, ProviderSetting, RepositorySettings, RepositoryUrl, SecretRef, Settings, ShardSettings,
    SnapshotSettings, TopologySettings,
};
use backstop_engine::archive::{Encryption, ShardArchive};
use backstop_engine::context::RunContext;
use backstop_engine::ports::{BackupInstances, Topology};
use backstop_engine::shard_dir;
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_repo::{ArchiveReader, Location, RepoKey, Repository, S3Access};
use backstop_types::create_repository::CreateRepository;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::ShardName;

use crate::secrets;

/// Paths that are searched for a configuration when none is named.
pub const DEFAULT_FILES: [&str; 2] = ["backstop.toml", "/etc/backstop/backstop.toml"];

/// Checked settings, and the context of the operations.
pub struct App {
    /// The settings.
    pub settings: Settings,
    /// File of the settings, if they came from one.
    pub file: Option<PathBuf>,
    /// Clock, reporter and request to stop.
    pub ctx: RunContext,
    /// The credentials that are in use, with their references.
    known: Mutex<Vec<(SecretRef, Arc<SharedCredentials>)>>,
}

impl App {
    /// Creates it from checked settings and the file that they came from.
    pub fn new(settings: Settings, file: Option<PathBuf>, ctx: RunContext) -> Self {
        Self { settings, file, ctx, known: Mutex::default() }
    }

    /// Returns the named shard, or all shards if none is named.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] with the names of the configured shards if no such shard is
    /// configured.
    pub fn shards(&self, name: Option<&ShardName>) -> Result<Vec<ShardName>> {
        match name {
            Some(name) => self.shard(name).map(|_| vec![name.clone()]),
            None => Ok(self.settings.shards.keys().cloned().collect()),
        }
    }

    /// Returns a shard's settings.
    ///
    /// # Errors
    /// As [`App::shards`].
    pub fn shard(&self, name: &ShardName) -> Result<&ShardSettings> {
        self.settings.shards.get(name).ok_or_else(|| {
            let known: Vec<_> = self.settings.shards.keys().map(ShardName::as_str).collect();
            let hint = match known.as_slice() {
                [] => "add a table [shards.NAME] to the configuration".to_owned(),
                known => format!("name a configured shard: {}", known.join(", ")),
            };
            Error::new(ErrorKind::Usage, format!("shard `{name}` is not configured")).hint(hint)
        })
    }

    /// Opens the repository, which must exist.
    ///
    /// # Errors
    /// As [`Repository::open`], and an error if a secret cannot be read.
    pub async fn repository(&self) -> Result<Repository> {
        let (location, key) = self.place()?;
        let there = Location { create: CreateRepository::Never, ..location };
        Repository::open(&there, key.as_ref(), self.ctx.host.clone()).await
    }

    /// Opens the repository for a command whose claim creates it where the configuration allows
    /// that.
    ///
    /// # Errors
    /// As [`App::repository`].
    pub async fn repository_or_new(&self) -> Result<Repository> {
        let (location, key) = self.place()?;
        Repository::open(&location, key.as_ref(), self.ctx.host.clone()).await
    }

    /// Opens the repository, or the place for one, for `check`, which reports what is missing.
    ///
    /// # Errors
    /// As [`App::repository`], except for a repository that does not exist.
    pub async fn repository_if_any(&self) -> Result<Repository> {
        let (location, key) = self.place()?;
        match Repository::open(&location, key.as_ref(), self.ctx.host.clone()).await {
            Err(error) if error.kind == ErrorKind::NotRecoverable => {
                let place = Location { create: CreateRepository::IfEmpty, id: None, ..location };
                Repository::open(&place, key.as_ref(), self.ctx.host.clone()).await
            }
            opened => opened,
        }
    }

    /// Creates the repository if none exists. Returns true if this call created it.
    ///
    /// # Errors
    /// As [`Repository::init`], and an error if a secret cannot be read.
    pub async fn make_repository(&self) -> Result<(Repository, bool)> {
        let (location, key) = self.place()?;
        Repository::init(&location, key.as_ref(), self.ctx.host.clone()).await
    }

    /// Returns the repository's location and key.
    ///
    /// # Errors
    /// Returns an error if a secret cannot be read.
    pub fn place(&self) -> Result<(Location, Option<RepoKey>)> {
        let settings = &self.settings.repository;
        let key = match &settings.encryption_key {
            Some(reference) => Some(RepoKey::parse(&secrets::resolve(reference)?)?),
            None => None,
        };
        Ok((location(settings)?, key))
    }

    /// Returns a shard's credentials.
    ///
    /// # Errors
    /// As [`secrets::credentials`].
    pub fn credentials(&self, shard: &ShardSettings) -> Result<Credentials> {
        secrets::credentials(&shard.credentials)
    }

    /// Returns a shard's credentials, which are read again when a server refuses them. All logins
    /// of this process share them: they count their tries together.
    ///
    /// # Errors
    /// As [`App::credentials`].
    pub fn shared_credentials(&self, shard: &ShardSettings) -> Result<Arc<SharedCredentials>> {
        let reference = shard.credentials.clone();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shared)) = known.iter().find(|(of, _)| *of == reference) {
            return Ok(Arc::clone(shared));
        }
        let read = reference.clone();
        let shared = Arc::new(SharedCredentials::new(move || secrets::credentials(&read), self.ctx.clone())?);
        known.push((reference, Arc::clone(&shared)));
        Ok(shared)
    }

    /// Returns a connector to the shard's servers.
    ///
    /// # Errors
    /// As [`App::credentials`].
    pub fn connector(&self, shard: &ShardSettings) -> Result<Connector> {
        Ok(Connector::of(self.shared_credentials(shard)?))
    }

    /// Returns the source of the shard's members.
    ///
    /// # Errors
    /// As [`Orchestrator::new`], and an error if the credentials cannot be read.
    pub fn topology(&self, shard: &ShardSettings) -> Result<Box<dyn Topology>> {
        self.topology_of(shard, &self.shared_credentials(shard)?)
    }

    /// Returns the source of the shard's members, with this connector for their servers.
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
            TopologySettings::Orchestrator { urls, cluster, discover, .. } => {
                let (access, max_lag) = (&credentials.orchestrator, shard.source.max_lag);
                let asked = OrchestratorTarget { urls, cluster, access, max_lag };
                Box::new(Orchestrator::new(&asked, connector, self.ctx.clone())?.discovering(*discover))
            }
        })
    }

    /// Opens the shard's instances: on this host, or anywhere if their volumes are EBS. Each shard
    /// of a repository has a separate folder in the work directory, because the files of a dead run
    /// are removed with the help of the server that they came from.
    ///
    /// # Errors
    /// As [`backstop_aws::backup_instances`], and an error if the credentials cannot be read.
    pub async fn backup_instances(
        &self,
        name: &ShardName,
        shard: &ShardSettings,
        repository: &Repository,
    ) -> Result<Box<dyn BackupInstances>> {
        if shard.snapshot.provider == ProviderSetting::Ebs {
            let url = self.settings.repository.url.to_string();
            return backstop_aws::backup_instances(name, shard, &url, self.instance_access(shard)?).await;
        }
        let old = shard_dir::old_shard_dir(&shard.snapshot.work_dir, name);
        // If no repository exists yet, its first backup is about to create it.
        let work_dir = match repository.id() {
            Some(id) => shard_dir::shard_dir(&shard.snapshot.work_dir, name, id),
            None => old.clone(),
        };
        Ok(Box::new(LocalBackupInstances {
            access: self.instance_access(shard)?,
            snapshot: SnapshotSettings { work_dir, ..shard.snapshot.clone() },
            old_work_dir: Some(old),
            servers: Arc::new(self.mysqld()),
        }))
    }

    fn instance_access(&self, shard: &ShardSettings) -> Result<InstanceAccess> {
        Ok(InstanceAccess {
            connector: self.connector(shard)?,
            freeze: shard.freeze.clone(),
            ctx: self.ctx.clone(),
        })
    }

    /// Returns the EBS snapshots that may hold a shard's backups. The shard need not be configured.
    pub fn volumes(&self, name: &ShardName) -> AwsVolumes {
        let settings = self.settings.shards.get(name).map(|shard| shard.snapshot.clone());
        AwsVolumes::new(settings.unwrap_or_default(), self.ctx.clone())
    }

    /// Returns a shard's archive and its settings.
    pub fn shard_archive<'a>(&self, shard: &'a ShardSettings, reader: ArchiveReader) -> ShardArchive<'a> {
        ShardArchive { settings: shard.archive.as_ref(), reader, encryption: self.encryption() }
    }

    /// Returns the encryption that is configured for stored data.
    pub fn encryption(&self) -> Encryption {
        match self.settings.repository.encryption_key {
            Some(_) => Encryption::On,
            None => Encryption::Off,
        }
    }

    /// Returns a reader of the tables, events and plugins of the shard's members.
    ///
    /// # Errors
    /// Returns an error if the credentials cannot be read.
    pub fn inspector(&self, shard: &ShardSettings) -> Result<MysqlInspector> {
        Ok(MysqlInspector::new(self.connector(shard)?))
    }

    /// Returns a control that starts servers.
    pub fn mysqld(&self) -> LocalMysqld {
        LocalMysqld::new(&self.settings.mysql.server, Arc::clone(&self.ctx.reporter))
    }

    /// Returns access to recovered servers as their administrator.
    ///
    /// # Errors
    /// Returns an error if the credentials cannot be read.
    pub fn admin_access(&self, shard: &ShardSettings) -> Result<MysqlAdminAccess> {
        Ok(MysqlAdminAccess::new(self.shared_credentials(shard)?))
    }
}

/// Settings that were given by flags.
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
/// Returns [`ErrorKind::Usage`] with every fault, each with its line, flag or variable.
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
            Err(error.hint(format!("write {}, or name a file with --config", DEFAULT_FILES.join(" or "))))
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
        let message = format!("cannot read configuration {}: {error}", file.display());
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
    let mut access = S3Access {
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        allow_http: s3.allow_http,
        ca: s3.ca.clone(),
        kms_key: s3.kms_key.clone(),
        storage_class: s3.storage_class.clone(),
        ..S3Access::default()
    };
    if let Some(credentials) = credentials {
        access.access_key_id = Some(credentials.access_key_id);
        access.secret_access_key = Some(credentials.secret_access_key);
        access.session_token = credentials.session_token;
    }
    Ok(Location { url, s3: access, create, id })
}

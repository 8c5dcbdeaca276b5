//! Downloads the server's packages with the system's package client, in a separate state folder.
//!
//! The mirror is the one this host uses. Signatures are always checked, against the distribution's
//! keyring.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_types::error::{Error, Result, ResultExt};
use tokio::process::Command;

use crate::command;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// A distribution whose archive has MySQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AptSystem {
    distribution: Distribution,
    /// Code name of the release: `bookworm`, `noble`, …
    codename: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distribution {
    Debian,
    Ubuntu,
}

/// Downloaded packages: the server, its clients and everything they need.
#[derive(Debug)]
pub struct DownloadedPackages {
    /// The `.deb` files.
    pub files: Vec<PathBuf>,
    /// Version of the server package.
    pub version: String,
}

impl AptSystem {
    /// Returns this host's distribution if its archive has MySQL.
    pub fn detect() -> Option<Self> {
        let release = std::fs::read_to_string("/etc/os-release").ok()?;
        Self::parse(&release).filter(|_| Path::new("/usr/bin/apt-get").is_file())
    }

    fn parse(release: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        let distribution = match value("ID")?.as_str() {
            "debian" => Distribution::Debian,
            "ubuntu" => Distribution::Ubuntu,
            _ => return None,
        };
        Some(Self { distribution, codename: value("VERSION_CODENAME")? })
    }

    fn origin(&self) -> &'static str {
        match self.distribution {
            Distribution::Debian => "Debian",
            Distribution::Ubuntu => "Ubuntu",
        }
    }

    fn keyring(&self) -> &'static str {
        match self.distribution {
            Distribution::Debian => "/usr/share/keyrings/debian-archive-keyring.gpg",
            Distribution::Ubuntu => "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        }
    }

    /// Returns the releases to take packages from. Debian's stable release has no MySQL; its
    /// unstable release has.
    fn releases(&self) -> Vec<String> {
        match self.distribution {
            Distribution::Debian => vec!["unstable".into()],
            Distribution::Ubuntu => vec![self.codename.clone(), format!("{}-updates", self.codename)],
        }
    }

    fn components(&self) -> &'static str {
        match self.distribution {
            Distribution::Debian => "main",
            Distribution::Ubuntu => "main universe",
        }
    }
}

/// Downloads the packages into `work`. An interrupted download resumes at its end.
pub async fn download(system: &AptSystem, work: &Path) -> Result<DownloadedPackages> {
    let mirror = mirror(system).await?;
    let architecture = dpkg_architecture().await?;
    let config = write_config(system, work, &mirror, &architecture)?;
    command::output(apt("apt-get", &config).arg("update"), DOWNLOAD_TIMEOUT, "cannot read the package index")
        .await?;
    let names = package_names(&config).await?;
    let mut install = apt("apt-get", &config);
    install.args(["-y", "--no-install-recommends", "--download-only", "install"]).args(&names);
    let doing = format!("cannot download {}", names.join(" and "));
    command::output(&mut install, DOWNLOAD_TIMEOUT, &doing).await?;
    collect(&work.join("cache/archives"))
}

/// Returns the base address of the mirror from which this host takes the distribution's packages.
async fn mirror(system: &AptSystem) -> Result<String> {
    let format = "$(CREATED_BY)|$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)";
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", format]);
    let doing = "cannot find this host's package mirror";
    let text = command::output(&mut targets, COMMAND_TIMEOUT, doing).await?;
    choose_mirror(system, &text).ok_or_else(|| {
        let origin = system.origin();
        Error::failed(format!("cannot find this host's package mirror: no {origin} source is set")).hint(
            "configure the distribution's package source, or install MySQL server 8.0 or newer yourself",
        )
    })
}

/// Chooses the mirror, and prefers a source that is known to be the distribution's. Before the
/// first `apt-get update` the origin is unknown, and the release's name decides. The signature of a
/// wrong choice does not verify.
fn choose_mirror(system: &AptSystem, targets: &str) -> Option<String> {
    let rows: Vec<Vec<&str>> = targets.lines().map(|line| line.split('|').collect()).collect();
    let main = rows.iter().filter(|row| row.len() == 5 && row[0] == "Packages" && row[3] == "main");
    let of_release = main.filter(|row| row[2] == system.codename).collect::<Vec<_>>();
    let official = of_release.iter().find(|row| row[1] == system.origin());
    official.or(of_release.first()).map(|row| row[4].to_owned())
}

async fn dpkg_architecture() -> Result<String> {
    let mut dpkg = Command::new("dpkg");
    let text =
        command::output(dpkg.arg("--print-architecture"), COMMAND_TIMEOUT, "cannot get dpkg's architecture")
            .await?;
    Ok(text.trim().to_owned())
}

/// Writes the separate state: sources, an empty list of installed packages, and options that are
/// read after the host's own, so that its proxies apply but none of its hooks runs.
fn write_config(system: &AptSystem, work: &Path, mirror: &str, architecture: &str) -> Result<PathBuf> {
    let doing = format!("cannot prepare {}", work.display());
    for folder in ["state/lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(work.join(folder)).failed(&doing)?;
    }
    let write = |name: &str, text: String| std::fs::write(work.join(name), text).failed(&doing);
    write("status", String::new())?;
    let source = |release: &String| {
        format!("deb [signed-by={}] {mirror} {release} {}\n", system.keyring(), system.components())
    };
    write("sources.list", system.releases().iter().map(source).collect())?;
    write("apt.conf", options(work, architecture))?;
    Ok(work.join("apt.conf"))
}

fn options(work: &Path, architecture: &str) -> String {
    let work = work.display();
    format!(
        r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
#clear APT::Default-Release;
Dir::State "{work}/state";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
Dir::Etc::sourcelist "{work}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Debug::NoLocking "true";
"#
    )
}

fn apt(program: &str, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-c").arg(config).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Returns the names of the server and client packages: without a version where the archive has
/// such packages, else the newest.
async fn package_names(config: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for wanted in ["mysql-server-core", "mysql-client-core"] {
        let mut search = apt("apt-cache", config);
        search.args(["pkgnames", wanted]);
        let doing = format!("cannot search for {wanted}");
        let found = command::output(&mut search, COMMAND_TIMEOUT, &doing).await?;
        let name = choose_package(wanted, &found);
        let missing = || Error::failed(format!("cannot find package {wanted}: the archive does not have it"));
        names.push(name.ok_or_else(missing)?);
    }
    Ok(names)
}

fn choose_package(wanted: &str, found: &str) -> Option<String> {
    let versioned = |name: &&str| {
        let rest = name.strip_prefix(wanted).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    };
    let number = |name: &str| -> Vec<u32> {
        name[wanted.len()..].split(['-', '.']).filter_map(|part| part.parse().ok()).collect()
    };
    let exact = found.lines().find(|name| *name == wanted);
    exact.or_else(|| found.lines().filter(versioned).max_by_key(|name| number(name))).map(str::to_owned)
}

fn collect(archives: &Path) -> Result<DownloadedPackages> {
    let doing = format!("cannot list {}", archives.display());
    let mut files = Vec::new();
    let mut version = None;
    for entry in std::fs::read_dir(archives).failed(&doing)? {
        let path = entry.failed(&doing)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.ends_with(".deb") {
            continue;
        }
        if name.starts_with("mysql-server-core") {
            version = name.split('_').nth(1).map(|version| version.replace("%3a", "."));
        }
        files.push(path);
    }
    let missing = || Error::failed(format!("{doing}: the server package is missing"));
    Ok(DownloadedPackages { files, version: version.ok_or_else(missing)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn debian_and_ubuntu_are_recognized() {
        let debian = AptSystem::parse("ID=debian\nVERSION_CODENAME=bookworm\n").unwrap();
        assert_eq!(debian.releases(), ["unstable"]);
        let ubuntu = AptSystem::parse("NAME=\"Ubuntu\"\nID=ubuntu\nVERSION_CODENAME=noble\n").unwrap();
        assert_eq!(ubuntu.releases(), ["noble", "noble-updates"]);
        assert_eq!(AptSystem::parse("ID=fedora\nVERSION_CODENAME=\"\"\n"), None);
    }

    #[test]
    fn mirror_of_the_distribution_is_chosen() {
        let system = AptSystem::parse("ID=debian\nVERSION_CODENAME=bookworm\n").unwrap();
        let targets = "Packages|Vendor|bookworm|main|https://vendor/\n\
            Sources|Debian|bookworm|main|http://sources/\n\
            Packages|Debian|bookworm-security|main|http://security/\n\
            Packages|Debian|bookworm|main|http://mirror/debian/\n";
        assert_eq!(choose_mirror(&system, targets).as_deref(), Some("http://mirror/debian/"));
        let fresh = "Packages||bookworm|main|http://mirror/\n";
        assert_eq!(choose_mirror(&system, fresh).as_deref(), Some("http://mirror/"));
        assert_eq!(choose_mirror(&system, ""), None);
    }

    #[test]
    fn newest_package_is_chosen_if_all_names_have_versions() {
        let wanted = "mysql-server-core";
        let both = "mysql-server-core-8.0\nmysql-server-core\n";
        assert_eq!(choose_package(wanted, both).as_deref(), Some(wanted));
        let versions =
            "mysql-server-core-8.4\nmysql-server-core-26.10\nmysql-server-core-8.0\nmysql-server-core-x\n";
        assert_eq!(choose_package(wanted, versions).as_deref(), Some("mysql-server-core-26.10"));
        assert_eq!(choose_package(wanted, "mysql-server-core-dbgsym\n"), None);
    }
}

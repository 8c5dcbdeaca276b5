//! Paths of the donor's data files outside its data directory.

use std::path::{Component, Path, PathBuf};

use backstop_types::server::RecordedSettings;

use super::is_on;
use super::value_kind::MAX_VALUE_BYTES;

/// Place of the backup's data files on the recovered server's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFiles {
    /// All in its data directory: the recovery restored them there.
    Restored,
    /// On volumes of the backup, which are mounted where the donor had them. Only the data
    /// directory may have another path.
    OnVolumes,
}

/// A folder outside the donor's data directory that holds data files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFolder {
    /// The recorded variable that names it.
    pub variable: &'static str,
    /// Absolute path.
    pub path: PathBuf,
}

/// Variables that name folders of data files; the value of one may be a list.
const FOLDERS: [&str; 5] = [
    "innodb_data_home_dir",
    "innodb_directories",
    "innodb_doublewrite_dir",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
];

/// Data directory of a donor that recorded none: that of MySQL's packages.
const DEFAULT_DATADIR: &str = "/var/lib/mysql";

/// Returns the folders outside the donor's data directory that hold its data files. A path that
/// cannot be one is left out: [`value_on_volume`] refuses it, too.
pub fn data_folders(recorded: &RecordedSettings) -> Vec<DataFolder> {
    let mut folders = Vec::new();
    let mut add = |variable, path: &str| {
        let path = path_on_volume(recorded, path).map(PathBuf::from);
        folders.extend(path.filter(|path| path.is_absolute()).map(|path| DataFolder { variable, path }));
    };
    for variable in FOLDERS {
        recorded
            .get(variable)
            .into_iter()
            .flat_map(|value| value.split(';'))
            .for_each(|path| add(variable, path));
    }
    if recorded.get("log_bin").is_some_and(|value| is_on(value)) {
        for variable in ["log_bin_basename", "log_bin_index"] {
            let file = recorded.get(variable).and_then(|file| Path::new(file).parent()?.to_str());
            file.into_iter().for_each(|folder| add(variable, folder));
        }
    }
    folders.dedup_by(|one, other| one.path == other.path);
    folders
}

/// Returns the value of an option that names files or folders, separated by `;`, on volumes of the
/// backup. `None`: one of them is no path of data files.
pub(super) fn value_on_volume(recorded: &RecordedSettings, value: &str) -> Option<String> {
    let paths: Option<Vec<_>> = value.split(';').map(|path| path_on_volume(recorded, path)).collect();
    paths.map(|paths| paths.join(";")).filter(|value| value.len() <= MAX_VALUE_BYTES)
}

/// Returns a path below the donor's data directory as relative to it, since the server takes
/// relative paths from its own; another absolute path unchanged.
fn path_on_volume(recorded: &RecordedSettings, path: &str) -> Option<String> {
    let is_plain = |part| matches!(part, Component::RootDir | Component::CurDir | Component::Normal(_));
    if path.contains(char::is_control) || !Path::new(path).components().all(is_plain) {
        return None;
    }
    let datadir = recorded.get("datadir").map_or(DEFAULT_DATADIR, String::as_str);
    match Path::new(path).strip_prefix(datadir) {
        Ok(inside) if inside.as_os_str().is_empty() => Some("./".to_owned()),
        Ok(inside) => inside.to_str().map(str::to_owned),
        Err(_) => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn recorded(pairs: &[(&str, &str)]) -> RecordedSettings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn paths_in_the_data_directory_become_relative_and_others_stay() {
        let donor = recorded(&[("datadir", "/srv/mysql/")]);
        for (path, here) in [
            ("/srv/mysql", Some("./")),
            ("/srv/mysql/redo", Some("redo")),
            ("/srv/mysql-redo", Some("/srv/mysql-redo")),
            ("./", Some("./")),
            ("", Some("")),
            ("/srv/mysql/../etc", None),
            ("/a\nplugin_load=x", None),
            ("/a;/srv/mysql/b", Some("/a;b")),
        ] {
            assert_eq!(value_on_volume(&donor, path).as_deref(), here, "{path:?}");
        }
        assert_eq!(value_on_volume(&recorded(&[]), "/var/lib/mysql/x").as_deref(), Some("x"));
        let long = format!("{}plugin_load_add=x.so", "a".repeat(4070));
        assert_eq!(value_on_volume(&donor, &long), None, "older servers break a long line in two");
    }

    #[test]
    fn folders_of_data_files_are_those_outside_the_data_directory() {
        let mut donor = recorded(&[
            ("datadir", "/srv/mysql/"),
            ("innodb_log_group_home_dir", "/redo"),
            ("innodb_undo_directory", "./undo"),
            ("innodb_directories", "/t1;/srv/mysql/t2;/t3"),
            ("log_bin_basename", "/logs/binlog"),
            ("log_bin_index", "/logs/binlog.index"),
            ("tmpdir", "/tmp"),
        ]);
        let paths = |donor: &RecordedSettings| {
            data_folders(donor).iter().map(|folder| folder.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&donor), ["/t1", "/t3", "/redo"], "it writes no binary logs");
        donor.insert("log_bin".to_owned(), "ON".to_owned());
        assert_eq!(paths(&donor), ["/t1", "/t3", "/redo", "/logs"]);
    }
}

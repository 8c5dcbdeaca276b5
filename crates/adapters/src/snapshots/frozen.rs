//! Tests that the files that a run leaves in a work directory for the next run stay the same, byte
//! for byte: `tests/frozen`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use backstop_testkit::frozen::{frozen, stored};
use backstop_types::ids::BackupId;

use super::{snapshot_dir, subvolume, work_dir};

#[test]
fn owner_of_a_run_keeps_stored_form() {
    let owner = work_dir::OwnerProcess { boot_id: "a-boot".into(), pid: 77, started: 1234 };
    stored("owner.json", &[owner]);
}

#[test]
fn work_directory_names_keep_stored_form() {
    let dir = tempfile::tempdir().unwrap();
    let run: BackupId = "20261123T022133Z-9f3a04c1".parse().unwrap();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let folder = work_dir::create(dir.path(), &run, uid, gid).unwrap();
    let image =
        snapshot_dir::choose_dir(&subvolume::Subvolume { root: dir.path().to_owned() }, &run, &folder)
            .unwrap();
    let shown = |path: &std::path::Path| format!("{}\n", path.strip_prefix(dir.path()).unwrap().display());
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut text = shown(&folder) + &shown(&image);
    files.iter().for_each(|file| text.push_str(&shown(file)));
    text.push_str(&format!("{}\n", subvolume::MARKS_XATTR));
    frozen("work-directory.txt", &text);
    assert_eq!(std::fs::read_to_string(folder.join("volume")).unwrap(), image.display().to_string());
    for name in [format!(".backstop-{run}"), "image".to_owned()] {
        std::fs::write(folder.join("volume"), format!("/srv/{name}")).unwrap();
        assert_eq!(snapshot_dir::dir_of(&folder).unwrap(), Some(PathBuf::from("/srv").join(name)));
    }
}

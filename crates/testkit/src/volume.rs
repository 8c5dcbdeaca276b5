//! Separate file systems for tests, in a file: loop-mounted, which only root can do.

use std::path::{Path, PathBuf};
use std::process::Command;

use backstop_host::process_start_ticks;

/// Mounted file system. Unmounted and removed when dropped.
pub struct TestVolume {
    /// Its mount point.
    pub path: PathBuf,
    image: PathBuf,
}

impl TestVolume {
    /// Creates a btrfs of this size; `None`, with a message on standard error, if the test has no
    /// permission to mount.
    pub fn btrfs(mebibytes: u64) -> Option<Self> {
        Self::make("mkfs.btrfs", mebibytes)
    }

    /// Creates an ext4 of this size; `None`, with a message on standard error, if the test has no
    /// permission to mount.
    pub fn ext4(mebibytes: u64) -> Option<Self> {
        Self::make("mkfs.ext4", mebibytes)
    }

    /// Creates a subvolume, with the folders above it.
    pub fn subvolume(&self, path: &str) -> PathBuf {
        let path = self.path.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("create a folder");
        run_command(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&path));
        path
    }

    /// Unmounts it even if it is in use: open files stay, the path is a bare mount point.
    pub fn unmount_lazily(&self) {
        run_command(Command::new("umount").arg("-l").arg(&self.path));
    }

    /// Mounts it again at the same path.
    pub fn mount_again(&self) {
        run_command(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.path));
    }

    fn make(mkfs: &str, mebibytes: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("mounting a file system needs root");
            return None;
        }
        remove_left_volumes();
        let name = format!("bsv-{}-{:08x}", std::process::id(), crate::accounts::unique_number() as u32);
        let path = std::env::temp_dir().join(&name);
        let image = path.with_extension("img");
        std::fs::create_dir(&path).expect("create a mount point");
        let file = std::fs::File::create(&image).expect("create an image");
        file.set_len(mebibytes << 20).expect("size the image");
        run_command(Command::new(mkfs).arg("-q").arg(&image));
        run_command(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
        Some(Self { path, image })
    }
}

impl Drop for TestVolume {
    fn drop(&mut self) {
        unmount(&self.path);
        let _ = std::fs::remove_file(&self.image);
    }
}

#[allow(clippy::print_stderr)]
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

pub(crate) fn run_command(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn unmount(path: &Path) {
    let _ = Command::new("umount").args(["-l"]).arg(path).output();
    let _ = std::fs::remove_dir(path);
}

/// Unmounts the volumes that killed tests left.
fn remove_left_volumes() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("bsv-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| process_start_ticks(pid).is_none()) {
            match name.ends_with(".img") {
                true => drop(std::fs::remove_file(entry.path())),
                false => unmount(&entry.path()),
            }
        }
    }
}

//! A small filesystem for Postgres, which can be filled up.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

const SIZE_MIB: u64 = 768;
const BLOCK_BYTES: u64 = 4096;

/// Mounted until it is dropped. It lives in the mount namespace that `tests/faults/run` makes, and so
/// ends with it in any case.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// # Errors
    /// When the system lets nobody make or mount a filesystem; with its words.
    pub fn mount() -> Result<Self> {
        let folder = TempDir::with_prefix("bowline-faults-disk-")?;
        // The account Postgres runs as has to get through.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let disk = Self { folder };
        disk.mount_loop().or_else(|_| disk.mount_memory())?;
        Ok(disk)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// ext4 in a file: with an fsync that means something.
    fn mount_loop(&self) -> Result<()> {
        let image = self.folder.path().join("image");
        File::create(&image)?.set_len(SIZE_MIB * 1024 * 1024)?;
        fs::create_dir_all(self.path())?;
        run("mkfs.ext4", &[Path::new("-q"), Path::new("-m"), Path::new("0"), &image])?;
        run("mount", &[Path::new("-o"), Path::new("loop"), &image, &self.path()])?;
        // The mount keeps what it needs of it.
        fs::remove_file(image)?;
        Ok(())
    }

    fn mount_memory(&self) -> Result<()> {
        fs::create_dir_all(self.path())?;
        let options = format!("size={SIZE_MIB}m");
        run(
            "mount",
            &["-t", "tmpfs", "-o", &options, "tmpfs"]
                .map(Path::new)
                .into_iter()
                .chain([&*self.path()])
                .collect::<Vec<_>>(),
        )
    }

    /// Leaves not a block.
    ///
    /// # Errors
    /// When the ballast cannot be begun.
    pub fn fill(&self) -> Result<()> {
        let path = self.path().join("ballast");
        File::create(&path).context("the ballast")?;
        let (mut length, mut piece) = (0, SIZE_MIB * 1024 * 1024);
        while piece >= BLOCK_BYTES {
            let range = ["-o", &length.to_string(), "-l", &piece.to_string()].map(PathBuf::from);
            let arguments: Vec<&Path> = range.iter().map(PathBuf::as_path).chain([&*path]).collect();
            if run("fallocate", &arguments).is_ok() { length += piece } else { piece /= 2 }
        }
        Ok(())
    }

    /// # Errors
    /// When it cannot be removed.
    pub fn relieve(&self) -> Result<()> {
        fs::remove_file(self.path().join("ballast")).context("the ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a Postgres that is just ending may still be on it.
        let _ = run("umount", &[Path::new("-l"), &self.path()]);
    }
}

fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

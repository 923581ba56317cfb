//! The user that runs the server's programs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::EmbeddedError;

/// The user and group that a program is to change to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OsAccount {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The account to change to, or `None` to keep this process' user.
///
/// # Errors
/// If the cluster exists and belongs to a user as whom this process cannot run the server.
pub(super) fn account_for(cluster: &Path) -> Result<Option<OsAccount>, EmbeddedError> {
    let we = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(cluster).ok().map(|meta| OsAccount { uid: meta.uid(), gid: meta.gid() });
    match (we, owner) {
        (0, None) => Ok(Some(unprivileged(&fs::read_to_string("/etc/passwd").unwrap_or_default()))),
        // An empty folder, such as a new volume, is given to the server's user.
        (0, Some(OsAccount { uid: 0, .. })) if is_empty(cluster) => {
            Ok(Some(unprivileged(&fs::read_to_string("/etc/passwd").unwrap_or_default())))
        }
        (0, Some(owner)) if owner.uid != 0 => Ok(Some(owner)),
        (we, Some(owner)) if owner.uid != we || we == 0 => Err(EmbeddedError::Owner {
            path: cluster.to_owned(),
            owner: owner.uid,
            we,
            root_hint: if owner.uid == 0 { "; PostgreSQL never runs as root: `chown -R postgres` it" } else { "" },
        }),
        _ => Ok(None),
    }
}

pub(super) fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Gives a folder and everything in it to an account.
pub(super) fn give_all(path: &Path, account: OsAccount) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_all(&entry?.path(), account)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid))
}

/// `postgres` if that user exists, else `nobody`, from the text of `/etc/passwd`.
fn unprivileged(passwd: &str) -> OsAccount {
    let find = |name: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(name);
            let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
            let account = OsAccount { uid: uid.parse().ok()?, gid: gid.parse().ok()? };
            (found && account.uid != 0).then_some(account)
        })
    };
    // 65534 is usually the number of `nobody`.
    find("postgres").or_else(|| find("nobody")).unwrap_or(OsAccount { uid: 65534, gid: 65534 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_comes_before_nobody_and_root_never() {
        let root = "root:x:0:0:root:/root:/bin/sh\n";
        let nobody = "nobody:x:99:98::/:/bin/false\n";
        let postgres = "postgres:x:101:104::/:/bin/sh\n";
        assert_eq!(unprivileged(&format!("{root}{nobody}{postgres}")), OsAccount { uid: 101, gid: 104 });
        assert_eq!(unprivileged(&format!("{root}{nobody}")), OsAccount { uid: 99, gid: 98 });
        assert_eq!(unprivileged(root).uid, 65534);
        assert_eq!(unprivileged("postgres:x:0:0::/:/bin/sh\n").uid, 65534);
    }
}

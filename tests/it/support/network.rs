//! Clusters that are reached as real ones are: over TCP, with certificates, with standbys.
//!
//! Each server has a loopback address of its own and PostgreSQL's usual port, so that no test looks for a free one.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::postgres::{Postgres, as_server, give};

/// A loopback address that no other server of the tests has.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Test programs that run at the same time have process ids that are close together: the low bits tell them apart.
    let number = ((std::process::id() % (1 << 16)) << 6) | (NEXT.fetch_add(1, Ordering::SeqCst) % 64);
    Ipv4Addr::from(0x7f40_0000 | number)
}

impl Postgres {
    /// A cluster that is not started yet, and that listens on an address besides its socket.
    pub fn at(address: Ipv4Addr) -> Self {
        Self::stopped().with_setting("listen_addresses", &address.to_string())
    }

    /// Creates a role that owns the schema `public` and must log in with a password from now on.
    pub fn role_with_password(&self, role: &str, password: &str) {
        self.psql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'; ALTER SCHEMA public OWNER TO {role}"));
        let rules = format!("local all {role} scram-sha-256\nlocal all all trust\n");
        self.rules(&rules);
        self.psql("SELECT pg_reload_conf()");
    }

    /// Replaces `pg_hba.conf`. The caller reloads a running server.
    pub fn rules(&self, lines: &str) {
        self.file("pg_hba.conf", lines);
    }

    /// Writes a file into the cluster's folder that only the server can read.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.data().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give(&path);
    }

    /// Ends the sessions of every daemon, so that they connect again.
    pub fn end_sessions(&self) {
        self.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tallyd%'");
    }

    /// A hot standby of a running cluster. It answers when this returns.
    pub fn standby_of(primary: &Self) -> Self {
        let mut standby = Self::empty();
        let mut command = as_server("pg_basebackup");
        command.args(["-U", "postgres", "-R", "--no-sync", "-c", "fast", "-h"]).arg(primary.sockets());
        let output = command.arg("-D").arg(standby.data()).current_dir("/").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        standby.up();
        standby
    }

    /// Makes the standby a primary. It takes writes when this returns.
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote()"), "t");
    }
}

/// An authority that signs servers' certificates.
pub struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tallyd-it-").tempdir().unwrap();
        let settings = "[ca]\ndefault_ca=it\n[it]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ncertificate=ca.pem\n\
                        private_key=ca.key\ndefault_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n\
                        [req]\ndistinguished_name=name\n[name]\n";
        fs::write(folder.path().join("ca.cnf"), settings).unwrap();
        fs::write(folder.path().join("index"), "").unwrap();
        fs::write(folder.path().join("serial"), "01").unwrap();
        let authority = Self { folder };
        authority.openssl(
            "req -x509 -config ca.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key \
                           -out ca.pem -days 30 -subj /CN=authority -addext basicConstraints=critical,CA:TRUE",
        );
        authority
    }

    /// Its certificate, in PEM form.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A key, and a certificate for a host's name between two instants (`20200101000000Z`), in PEM form.
    pub fn sign(&self, host: &str, from: &str, to: &str) -> (String, String) {
        fs::write(self.folder.path().join("names"), format!("subjectAltName=DNS:{host}\n")).unwrap();
        self.openssl(&format!(
            "req -new -config ca.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out request \
             -subj /CN={host}"
        ));
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -extfile names -startdate {from} -enddate {to} -in request -out signed"
        ));
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap();
        (read("key"), read("signed"))
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split_whitespace()).current_dir(self.folder.path()).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Replaces a file atomically, as tools that rotate secrets do.
pub fn replace(file: &Path, content: impl AsRef<[u8]>) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, file).unwrap();
}

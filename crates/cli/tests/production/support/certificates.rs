//! The test's certificate authority, with a certificate and its key for each host.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Certificates in one folder.
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Creates an authority, and for each of these hosts a certificate whose key only this user can
    /// read.
    pub fn of(dir: &Path, hosts: &[&str], user: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let this = Self { dir: dir.to_owned() };
        openssl(&this.ca(), &this.key("ca"), &["-subj", "/CN=an authority of the tests"]);
        let (ca, key) = (this.ca().display().to_string(), this.key("ca").display().to_string());
        for host in hosts {
            let (subject, name) = (format!("/CN={host}"), format!("subjectAltName=DNS:{host}"));
            let leaf = ["-CA", &ca, "-CAkey", &key, "-subj", &subject, "-addext", &name];
            let leaf = [&leaf[..], &["-addext", "basicConstraints=critical,CA:FALSE"]].concat();
            openssl(&this.certificate(host), &this.key(host), &leaf);
            run(Command::new("chown").arg(user).arg(this.key(host)));
        }
        this
    }

    /// Returns the path of the authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.certificate("ca")
    }

    /// Returns the path of a host's certificate.
    pub fn certificate(&self, host: &str) -> PathBuf {
        self.dir.join(format!("{host}.pem"))
    }

    /// Returns the path of a host's key.
    pub fn key(&self, host: &str) -> PathBuf {
        self.dir.join(format!("{host}-key.pem"))
    }
}

/// Creates a key and its certificate, signed by itself or as `more` says.
fn openssl(certificate: &Path, key: &Path, more: &[&str]) {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    run(command.args(more).arg("-keyout").arg(key).arg("-out").arg(certificate));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

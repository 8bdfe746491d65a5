//! Certificates for the TLS tests, made with openssl.

use std::{
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
};

use tempfile::TempDir;

/// Authorities and what they signed: `<ca>.pem`, `<ca>-server.pem`, `<ca>-node.pem`, each with a `.key`.
pub struct Certificates(TempDir);

impl Certificates {
    /// Makes two authorities, `ours` and `other`, each with a certificate for a server and one for a node. `None` if
    /// there is no openssl.
    pub fn new() -> Option<Self> {
        let there = Command::new("openssl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        there.ok().filter(ExitStatus::success)?;
        let made = Self(tempfile::tempdir().unwrap());
        for ca in ["ours", "other"] {
            made.openssl(&["req", "-x509", "-subj", "/CN=authority", "-days", "2"], ca, &[]);
            for who in ["server", "node"] {
                made.sign(ca, who);
            }
        }
        Some(made)
    }

    fn sign(&self, ca: &str, who: &str) {
        let name = format!("{ca}-{who}");
        let authority = [self.path(&format!("{ca}.pem")), self.path(&format!("{ca}.key"))];
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
        let signed = ["-CA", authority[0].to_str().unwrap(), "-CAkey", authority[1].to_str().unwrap()];
        let leaf = ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"];
        let subject = format!("/CN={who}");
        self.openssl(&["req", "-x509", "-subj", &subject, "-days", "2"], &name, &[&signed[..], &leaf[..]].concat());
    }

    /// Makes a key and a certificate with this name.
    fn openssl(&self, what: &[&str], name: &str, more: &[&str]) {
        let output = Command::new("openssl")
            .args(what)
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .arg("-keyout")
            .arg(self.path(&format!("{name}.key")))
            .arg("-out")
            .arg(self.path(&format!("{name}.pem")))
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The file with this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

//! `recovery.tls` of the whole configuration or of a shard: the certificate of a recovered server.

use std::path::PathBuf;

use super::table::{TableReader, absolute};

/// Paths of the certificate, its key and the authorities' certificates for a server recovered on
/// this host. The recovery copies the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Authorities for checking clients' certificates, PEM; `None`: they are not checked.
    pub ca: Option<PathBuf>,
    /// The server's certificate and its intermediate certificates, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM without a password.
    pub key: PathBuf,
}

/// Reads `tls` of a table `recovery`.
pub(super) fn read_server_tls(recovery: &TableReader<'_>) -> Option<ServerTls> {
    recovery.table("tls").and_then(|table| {
        let ca = table.read("ca", absolute);
        let cert = table.read("cert", absolute);
        let cert = table.required("cert", cert, "cert = \"/etc/mysql/server-cert.pem\"");
        let key = table.read("key", absolute);
        let key = table.required("key", key, "key = \"/etc/mysql/server-key.pem\"");
        table.finish();
        Some(ServerTls { ca, cert: cert?, key: key? })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::settings::{Settings, parse};

    fn read(recovery: &str) -> Result<Settings, String> {
        let text = format!(
            "[repository]\nurl = \"file:///b\"\n[shards.a]\ncredentials = {{ env = \"A\" }}\n\
             topology = {{ members = [\"db1:3306\"] }}\n{recovery}"
        );
        parse(&text, "b.toml").map_err(|errors| errors.to_string())
    }

    #[test]
    fn shard_uses_its_own_certificate_or_the_common_one() {
        let of_shard = |settings: &Settings| settings.shards.values().next().unwrap().tls.clone().unwrap();
        let all = "[recovery.tls]\ncert = \"/all.pem\"\nkey = \"/all-key.pem\"\n";
        let settings = read(all).unwrap();
        assert_eq!((settings.tls.clone().unwrap(), of_shard(&settings).ca), (of_shard(&settings), None));
        let own = format!(
            "{all}[shards.a.recovery.tls]\nca = \"/ca.pem\"\ncert = \"/a.pem\"\nkey = \"/a-key.pem\"\n"
        );
        let settings = read(&own).unwrap();
        assert_eq!(of_shard(&settings).cert, PathBuf::from("/a.pem"));
        assert_eq!(of_shard(&settings).ca, Some(PathBuf::from("/ca.pem")));
        assert_eq!(
            settings.shards.values().next().unwrap().recovery,
            None,
            "no instance is made from EBS snapshots"
        );
    }

    #[test]
    fn wrong_tls_keys_are_named() {
        for (recovery, words) in [
            ("[recovery.tls]\ncert = \"/c\"", "key"),
            ("[recovery.tls]\ncert = \"c\"\nkey = \"/k\"", "`c` is not an absolute path"),
            ("[recovery.tls]\ncert = \"/c\"\nkey = \"/k\"\npassword = \"x\"", "password"),
            ("[recovery]\nterraform = \"/r\"", "terraform"),
            ("[shards.a.recovery]\nterraform = \"/r\"\ntls = { cert = \"/c\", key = \"/k\" }", "playbook"),
        ] {
            let errors = read(recovery).unwrap_err();
            assert!(errors.contains(words), "{recovery}: {errors}");
        }
    }
}

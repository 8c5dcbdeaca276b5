//! The command `key`: from the first key to its replacement.

use crate::{backstop, json};

#[test]
fn key_is_generated_without_a_configuration_and_replaced_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &str| backstop(dir.path(), arguments).output().unwrap();
    let ends = |arguments: &str, code: i32| {
        let ran = run(arguments);
        assert_eq!(ran.status.code(), Some(code), "{arguments}: {}", String::from_utf8_lossy(&ran.stderr));
        ran
    };
    ends("key generate one.key", 0);
    ends("key generate one.key", 2);
    let configured = |key: &str| {
        let at = dir.path().display();
        let text = format!(
            "[repository]\nurl = 'file://{at}/repository'\nencryption_key = {{ file = '{at}/{key}' }}\n"
        );
        std::fs::write(dir.path().join("backstop.toml"), text).unwrap();
    };
    configured("one.key");
    ends("init", 0);
    ends("key generate two.key", 0);
    ends("key export wrapped.json", 0);
    let copies = |code| json(&ends("key check --json", code))["keys"][0]["copies"].clone();
    assert_eq!(copies(0), 2);
    for folder in ["keys", "spare-keys"] {
        std::fs::remove_dir_all(dir.path().join("repository").join(folder)).unwrap();
    }
    ends("key check", 2);
    ends("key import wrapped.json", 0);
    assert_eq!(copies(0), 2);
    ends("key rotate two.key", 0);
    ends("key check", 2);
    configured("two.key");
    assert_eq!(copies(0), 2);
    ends("key remove 00ff", 20);
}

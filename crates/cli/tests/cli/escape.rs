//! Text from elsewhere cannot control the terminal that shows it, nor pass for a line of
//! Backstop's.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use crate::{backstop, run, stderr, stdout};

const CONTROL_CHARACTERS: &str =
    "\x1b]0;owned\x07\u{9b}2J\u{202e}txt\u{2028}\r\n[  99.9 s] backup complete: all is well";

/// Starts a server that refuses every login with this message, and returns its port.
fn server_that_says(words: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // An error of MySQL's protocol: length, sequence number, marker, code, text.
    let length = u8::try_from(3 + words.len()).unwrap();
    let packet = [&[length, 0, 0, 0, 0xff, 0x15, 0x04][..], words.as_bytes()].concat();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(&packet);
        }
    });
    port
}

fn configured(dir: &Path, port: u16) {
    use std::os::unix::fs::PermissionsExt;
    let secret = dir.join("orders.toml");
    std::fs::write(&secret, "user = 'backstop'\npassword = 'x'\n").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!(
        "[repository]\nurl = 'file://{dir}/repository'\n[shards.orders]\ncredentials = {{ file = '{dir}/orders.toml' }}\n\
         topology = {{ members = ['127.0.0.1:{port}'] }}\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("backstop.toml"), text).unwrap();
}

/// Returns true if a text has characters that control a terminal, or that a reader could take for
/// Backstop's own output.
fn steers(text: &str) -> bool {
    let acts = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{2028}');
    text.contains(acts) || text.lines().any(|line| line.starts_with("[  99.9 s]"))
}

#[test]
fn server_text_cannot_control_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    configured(dir.path(), server_that_says(CONTROL_CHARACTERS));
    assert_eq!(run(dir.path(), "init").status.code(), Some(0));
    for command in ["check", "status", "backup orders", "-vv backup orders"] {
        let output = run(dir.path(), command);
        let told = format!("{}{}", stdout(&output), stderr(&output));
        assert!(told.contains(r"\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}txt"), "{command}: {told}");
        assert!(!steers(&told), "{command}: {told:?}");
    }
    for command in ["--json check", "--json -vv backup orders"] {
        let output = run(dir.path(), command);
        assert!(!steers(&stdout(&output)) && !steers(&stderr(&output)), "{command}");
        let result: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert!(result.to_string().contains("\u{202e}txt"), "its meaning is kept: {result}");
    }
}

#[test]
fn file_text_cannot_control_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"repository = { url = "file:///x" }
        shards.orders.snapshot.provider = "a\u001b]0;owned\u0007\u202e\nerror: all is well""#;
    std::fs::write(dir.path().join("backstop.toml"), text).unwrap();
    let output = run(dir.path(), "status");
    let told = stderr(&output);
    assert!(told.contains(r"a\u{1b}]0;owned\u{7}\u{202e}"), "{told}");
    assert!(!steers(&told) && told.matches("\nerror:").count() == 0, "{told:?}");

    let mut named = backstop(dir.path(), "status --config");
    let output = named.arg("a\x1b]0;owned\x07.toml").output().unwrap();
    assert!(stderr(&output).contains(r"a\u{1b}]0;owned\u{7}.toml") && !steers(&stderr(&output)));
}

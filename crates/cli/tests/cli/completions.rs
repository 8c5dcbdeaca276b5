//! Completion scripts that shells can read.

use std::process::Command;

use crate::{run, stdout};

/// Makes a shell read the script, if this machine has the shell. Every machine has bash.
fn is_read_by(shell: &str, options: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &format!("completions {shell}"));
    assert_eq!(output.status.code(), Some(0));
    let script = stdout(&output);
    for word in ["recover", "standalone", "backups"] {
        assert!(script.contains(word), "{shell}: {word}");
    }
    let file = dir.path().join("script");
    std::fs::write(&file, script).unwrap();
    match Command::new(shell).args(options).arg(&file).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && shell != "bash" => {
            eprintln!("left out: there is no {shell}");
        }
        read => {
            let read = read.unwrap();
            assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}

#[test]
fn shells_accept_their_completion_scripts() {
    is_read_by("bash", &["-n"]);
    is_read_by("zsh", &["-n"]);
    is_read_by("fish", &["--no-execute"]);
}

#[test]
fn bash_completes_commands() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, stdout(&run(dir.path(), "completions bash"))).unwrap();
    let ask = format!(
        "source {}; COMP_WORDS=(backstop rec); COMP_CWORD=1; _backstop backstop rec backstop; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let answer = Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "recover", "{answer:?}");
}

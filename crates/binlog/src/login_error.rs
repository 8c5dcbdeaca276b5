//! Login errors: a server's error numbers as causes with a remedy.

use backstop_types::error::{Error, ErrorKind};

/// Converts the server's answer to a login. `None` if the number does not concern logins.
///
/// The server's own message comes last: it names the host from which the server sees the account
/// connect, and never a password.
pub fn login_error(code: u16, words: &str, user: &str) -> Option<Error> {
    let alter = |how: &str| {
        let hosts = format!("SELECT Host FROM mysql.user WHERE User = '{user}'");
        format!("run ALTER USER '{user}'@'HOST' {how} (`{hosts}` returns HOST)")
    };
    let what = describe_code(code)?;
    let hint = match code {
        1045 | 1698 => CHECK_LOGIN_HINT.to_owned(),
        1130 => "create the account for this host, or for the network that Backstop connects from (docs/grants.md)".to_owned(),
        1129 => "run TRUNCATE TABLE performance_schema.host_cache on it, and find out what broke the connections (max_connect_errors)".to_owned(),
        1820 | 1862 => {
            alter("IDENTIFIED BY '…' PASSWORD EXPIRE NEVER") + " and put the password into the credentials"
        }
        3118 => alter("ACCOUNT UNLOCK"),
        3955 => format!("correct the password in the credentials, then {}", alter("ACCOUNT UNLOCK")),
        3159 => "set tls = { mode = \"required\" } in the credentials".to_owned(),
        1203 | 1226 => format!("check SHOW CREATE USER, and {}; or raise max_user_connections", alter(UNLIMITED_RESOURCES_CLAUSE)),
        1040 => "find their users with SHOW PROCESSLIST, or raise max_connections; CONNECTION_ADMIN gives an account one more".to_owned(),
        1184 => INIT_CONNECT_HINT.to_owned(),
        3032 => "run SET GLOBAL offline_mode = OFF on it when it may accept connections again".to_owned(),
        _ => format!("{}, or load the plugin", alter(KNOWN_PLUGIN_CLAUSE)),
    };
    let kind =
        if matches!(code, 1203 | 1226 | 1040 | 1184 | 3032) { ErrorKind::Failed } else { ErrorKind::Denied };
    Some(Error::new(kind, format!("{what}; the server reports: {words} (error {code})")).hint(hint))
}

/// True for the error of a wrong password. A server with `FAILED_LOGIN_ATTEMPTS` counts these, and
/// no other refusal.
pub fn is_wrong_password(error: &Error) -> bool {
    let numbered = |code: u16| error.message.contains(&format!("(error {code})"));
    error.kind == ErrorKind::Denied && (numbered(1045) || numbered(1698))
}

const CHECK_LOGIN_HINT: &str = "check user and password in the credentials, and with SHOW CREATE USER the account's host and requirements: \
    SSL needs tls.mode `required`, and Backstop has no certificate to present for X509, ISSUER or SUBJECT";
const INIT_CONNECT_HINT: &str = "check the error log for a failed init_connect: correct it (SELECT @@GLOBAL.init_connect), or grant \
    the account CONNECTION_ADMIN, which skips init_connect";
const UNLIMITED_RESOURCES_CLAUSE: &str =
    "WITH MAX_USER_CONNECTIONS 0 MAX_CONNECTIONS_PER_HOUR 0 MAX_QUERIES_PER_HOUR 0";
const KNOWN_PLUGIN_CLAUSE: &str = "IDENTIFIED WITH caching_sha2_password BY '…'";

fn describe_code(code: u16) -> Option<&'static str> {
    Some(match code {
        1045 | 1698 => {
            "user or password is wrong, or the account may not connect from this host, or not in this way"
        }
        1130 => "no account may connect from this host",
        1129 => "the server blocks this host after too many broken connections",
        1820 | 1862 => "the account's password has expired",
        3118 => "the account is locked",
        3955 => "the account is temporarily locked after too many failed logins",
        3159 => "the server accepts encrypted connections only",
        1203 | 1226 => "the account has reached one of its resource limits",
        1040 => "the server has no free connection",
        1184 => "the server accepted the login and ended the session at its first statement",
        3032 => "the server is in offline mode",
        1251 | 1524 => "the account's authentication plugin is not loaded, or Backstop does not support it",
        _ => return None,
    })
}

/// Returns the error for an authentication plugin that Backstop does not support.
pub fn unknown_plugin(plugin: &str, user: &str) -> Error {
    let what =
        format!("the account does not exist, or its authentication plugin `{plugin}` is not supported");
    Error::new(ErrorKind::Denied, what)
        .hint(format!("check SHOW CREATE USER, and run ALTER USER '{user}'@'HOST' {KNOWN_PLUGIN_CLAUSE}"))
}

/// Returns the error for a server that accepted the login but did not answer the first statement.
pub fn cut_off_error(why: &str) -> Error {
    Error::failed(format!("the server accepted the login and did not answer its first statement: {why}"))
        .hint(INIT_CONNECT_HINT)
}

/// Hint for a login that did not finish in the longest time that a connection waits for an answer.
pub const SLOW_LOGIN_HINT: &str =
    "check whether the server is overloaded or stopped, or delays logins after failures (connection_control)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_login_is_explained_with_a_remedy() {
        let told = |code| login_error(code, "words", "backstop");
        let locked = told(3118).unwrap_or_else(|| Error::failed(""));
        assert_eq!(locked.kind, ErrorKind::Denied);
        assert_eq!(locked.message, "the account is locked; the server reports: words (error 3118)");
        assert!(locked.hint.is_some_and(|hint| hint.contains("ALTER USER 'backstop'@'HOST' ACCOUNT UNLOCK")));
        let full = told(1040).map(|error| error.kind);
        assert_eq!((full, told(1064)), (Some(ErrorKind::Failed), None));
        let plugin = told(1524).and_then(|error| error.hint).unwrap_or_default();
        assert!(plugin.contains("caching_sha2_password"), "{plugin}");
    }

    #[test]
    fn wrong_password_is_distinguished_from_other_refusals() {
        let wrong = |code| {
            let error = login_error(code, "Access denied for user 'b'@'h'", "b");
            error.is_some_and(|error| is_wrong_password(&error.during("cannot connect")))
        };
        assert!(wrong(1045) && !wrong(3118) && !wrong(3955) && !wrong(1130) && !wrong(1040));
    }
}

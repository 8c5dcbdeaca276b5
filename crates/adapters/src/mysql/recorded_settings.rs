//! Reads the settings that are recorded with a backup.

use backstop_policy::carried_settings::is_recovery_init_file;
use backstop_types::server::RecordedSettings;

use super::connection::Connection;
use super::error::SqlError;

/// Selects every variable that was set: in an option file, on the command line, with `SET PERSIST`
/// or `SET GLOBAL`. MySQL also counts a variable that a session set for itself, as each session of
/// Backstop's does; its global value is recorded then.
const CHANGED_VARIABLES: &str = "SELECT g.VARIABLE_NAME, g.VARIABLE_VALUE FROM performance_schema.global_variables g \
     JOIN performance_schema.variables_info i USING (VARIABLE_NAME) WHERE i.VARIABLE_SOURCE <> 'COMPILED'";

/// Selects the variables that the data files depend on, the data directory, and the variables by
/// which the server reads statements and strings, set or not.
const FORMAT_VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('innodb_page_size', 'innodb_data_file_path', \
     'innodb_checksum_algorithm', 'innodb_undo_tablespaces', 'lower_case_table_names', 'datadir', 'log_bin', \
     'log_bin_basename', 'log_bin_index', 'character_set_server', 'collation_server', 'sql_mode', 'time_zone', \
     'system_time_zone', 'default_storage_engine')";

/// Reads the settings to record: those that were set, and those that the data depends on. None of
/// them holds a password.
///
/// # Errors
/// See [`super::error::SqlCause`].
pub async fn recorded_settings(session: &mut Connection) -> Result<RecordedSettings, SqlError> {
    let mut settings = RecordedSettings::new();
    for sql in [CHANGED_VARIABLES, FORMAT_VARIABLES] {
        let rows: Vec<(String, Option<String>)> = session.query(sql).await?;
        settings.extend(rows.into_iter().map(|(name, value)| (name, value.unwrap_or_default())));
    }
    settings.retain(|name, value| !holds_a_secret(name) && !is_recovery_init_file(name, value));
    Ok(settings)
}

/// Returns true for variables whose value is a secret.
fn holds_a_secret(name: &str) -> bool {
    let endings = ["_password", "_pwd", "_secret_id", "_secret", "_token"];
    endings.iter().any(|ending| name.ends_with(ending)) && name != "disconnect_on_expired_password"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_recorded() {
        for secret in ["report_password", "authentication_ldap_simple_bind_root_pwd"] {
            assert!(holds_a_secret(secret), "{secret}");
        }
        for plain in ["disconnect_on_expired_password", "sql_require_primary_key", "init_connect"] {
            assert!(!holds_a_secret(plain), "{plain}");
        }
    }
}

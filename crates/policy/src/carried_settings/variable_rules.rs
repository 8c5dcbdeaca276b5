//! Rules for the global variables of MySQL: whether a recovered server keeps the donor's value, and
//! the reason if it does not.

use std::fmt;

use super::value_kind::ValueKind;

/// Rule for a recorded variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableRule {
    /// Becomes an option of the recovered server, if the value is valid.
    Carried(ValueKind),
    /// Becomes an option on which the data files depend: a server that does not know it must not
    /// start.
    Format(ValueKind),
    /// Becomes an option with another name.
    As(&'static str, ValueKind),
    /// The names of the binary logs: in the data directory, or where they are on a volume.
    Recreated,
    /// Folders of data files: restored into the data directory, or where they are on a volume.
    DataFolders,
    /// Carried unless the donor had its own certificates: clients trust those, and the recovered
    /// server lacks them.
    Secure,
    /// A file of the donor's certificates. If the recovered server gets no others, a finding
    /// reports it.
    Certificate,
    /// The donor's address. If the recovered server has no known address, a finding reports it.
    Host,
    /// A variable without an option that differs from this built-in value: an operator may set it.
    Statement(&'static str),
    /// Follows from another variable at each start.
    Derived,
    /// Dropped, and reported if it was on; holds the reason.
    ToldOn(&'static str),
    /// Dropped and reported; holds the reason.
    Told(&'static str),
    /// Dropped silently, since it is unique to a server or the recovery decides it; holds the
    /// reason.
    Decided(&'static str),
}

use VariableRule::{
    As, Carried, Certificate, DataFolders, Decided, Derived, Format, Host, Recreated, Secure, Statement,
    Told, ToldOn,
};

impl fmt::Display for VariableRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carried(kind) => write!(f, "carried: {kind}"),
            Format(kind) => write!(f, "carried, the data files depend on it: {kind}"),
            As(name, kind) => write!(f, "carried as `{name}`: {kind}"),
            Recreated => f.write_str(
                "recreated: the donor's file name, in the data directory (of volumes of the backup: as on the donor)",
            ),
            DataFolders => f.write_str(
                "left out: the files are restored into the data directory (of volumes of the backup: carried)",
            ),
            Secure => {
                f.write_str("carried, unless the donor had its own certificates and no others are given")
            }
            Certificate => f.write_str(
                "replaced by `[recovery.tls]` of the configuration, else reported (`tls-not-carried`)",
            ),
            Host => {
                f.write_str("replaced by the address of `--listen`, else reported (`report-host-not-set`)")
            }
            Statement(value) => write!(f, "reported with a `SET PERSIST` statement, unless it is `{value}`"),
            Derived => f.write_str("left out: the server sets it when it starts"),
            ToldOn(why) => write!(f, "reported if it was on: {why}"),
            Told(why) => write!(f, "reported: {why}"),
            Decided(why) => write!(f, "left out: {why}"),
        }
    }
}

/// Returns the rule of a variable; `None`: no server has a variable of this name.
pub fn rule_of(name: &str) -> Option<VariableRule> {
    let rules = |fits: fn(&str, &str) -> bool| {
        VARIABLE_RULES.iter().find(|(_, names)| names.split_whitespace().any(|known| fits(known, name)))
    };
    rules(|known, name| known == name).or_else(|| rules(is_of_family)).map(|(rule, _)| *rule)
}

/// Returns every name, or family of names that ends in `*`, with its rule, ordered by name.
pub fn rules() -> Vec<(&'static str, VariableRule)> {
    let named =
        VARIABLE_RULES.iter().flat_map(|(rule, names)| names.split_whitespace().map(|name| (name, *rule)));
    let mut rules: Vec<_> = named.collect();
    rules.sort_by_key(|(name, _)| *name);
    rules
}

/// True if the pattern matches the name: for plugins and components with many variables.
fn is_of_family(pattern: &str, name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    pattern.strip_suffix('*').is_some_and(|start| name.starts_with(start)) && name.chars().all(plain)
}

const ADMIN: &str = "the recovery sets the addresses of the server";
const APPLIERS: &str = "a replica's appliers do not start with it";
const CLONE: &str = "it names the donor's files or other servers";
const FILE: &str = "it is a file of the donor's host";
const HOST: &str = "it depends on the donor's host";
const IDENTITY: &str = "it is the donor's identity; a recovered server has its own";
const PLACE: &str = "it is a path on the donor's host";
const PLUGINS: &str = "its libraries, files or secrets may be missing here";
const REPLICATION: &str = "it belongs to the donor's replication";
const REPORTED: &str = "it is an account of the donor's";
const SERVE: &str = "the recovery and the hand-over set it";
const STATE: &str = "it is a state, not a setting";
const UNSAFE: &str = "it is not safe on a server that is being recovered";

/// Rules with the sorted names they apply to. A name that ends in `*` is a family; it applies to
/// names without another rule.
const VARIABLE_RULES: &[(VariableRule, &str)] = &[
    (Format(ValueKind::Number), "innodb_page_size lower_case_table_names"),
    (Format(ValueKind::Word), "innodb_checksum_algorithm"),
    (Format(ValueKind::DataFile), "innodb_data_file_path"),
    (Carried(ValueKind::DataFile), "innodb_temp_data_file_path"),
    (
        Carried(ValueKind::Switch),
        "
         activate_all_roles_on_login activate_mandatory_roles auto_generate_certs autocommit automatic_sp_privileges avoid_temporal_upgrade
         big_tables binlog_direct_non_transactional_updates binlog_encryption binlog_expire_logs_auto_purge binlog_gtid_simple_recovery
         binlog_order_commits binlog_rotate_encryption_master_key_at_startup binlog_rows_query_log_events binlog_skip_flush_commands
         binlog_transaction_compression caching_sha2_password_auto_generate_rsa_keys caching_sha2_password_enforce_storage_format
         caching_sha2_password_proxy_users check_proxy_users clone_autotune_concurrency clone_block_ddl clone_enable_compression
         component_connection_control.exempt_unknown_users container_aware default_table_encryption disconnect_on_expired_password
         enable_cascade_triggers enable_secondary_engine_statistics end_markers_in_json explicit_defaults_for_timestamp flush general_log
         global_connection_memory_tracking innodb_adaptive_flushing innodb_adaptive_hash_index innodb_api_disable_rowlock
         innodb_api_enable_binlog innodb_api_enable_mdl innodb_buffer_pool_dump_at_shutdown innodb_buffer_pool_in_core_file
         innodb_cmp_per_index_enabled innodb_deadlock_detect innodb_dedicated_server innodb_disable_sort_file_cache
         innodb_extend_and_initialize innodb_file_per_table innodb_flush_sync innodb_ft_enable_diag_print innodb_ft_enable_stopword
         innodb_log_checksums innodb_log_compressed_pages innodb_native_foreign_keys innodb_numa_interleave innodb_optimize_fulltext_only
         innodb_print_all_deadlocks innodb_print_ddl_logs innodb_random_read_ahead innodb_redo_log_encrypt innodb_rollback_on_timeout
         innodb_stats_auto_recalc innodb_stats_include_delete_marked innodb_stats_on_metadata innodb_stats_persistent innodb_status_output
         innodb_status_output_locks innodb_strict_mode innodb_table_locks innodb_undo_log_encrypt innodb_undo_log_truncate
         innodb_use_fdatasync innodb_use_native_aio innodb_validate_tablespace_paths keep_files_on_create local_infile
         log_bin_trust_function_creators log_bin_use_v1_row_events log_builtin_as_identified_by_password log_queries_not_using_indexes
         log_raw log_replica_updates log_slave_updates log_slow_admin_statements log_slow_extra log_slow_replica_statements
         log_slow_slave_statements log_statements_unsafe_for_binlog low_priority_updates master_verify_checksum myisam_use_mmap
         mysql_native_password_proxy_users new old old_alter_table partial_revokes password_require_current performance_schema
         performance_schema_show_processlist persist_sensitive_variables_in_plaintext persisted_globals_load print_identified_with_as_hex
         relay_log_purge relay_log_recovery replica_allow_batching replica_allow_higher_version_source replica_compressed_protocol
         replica_preserve_commit_order replica_sql_verify_checksum replication_optimize_for_static_plugin_config
         replication_sender_observe_commit_only restrict_fk_on_non_standard_key rewriter_enabled
         rewriter_enabled_for_threads_without_privilege_checks rpl_semi_sync_master_wait_no_slave rpl_semi_sync_source_wait_no_replica
         select_into_disk_sync session_track_schema session_track_state_change sha256_password_auto_generate_rsa_keys
         sha256_password_proxy_users show_create_table_verbosity show_gipk_in_create_table_and_information_schema show_old_temporals
         skip_name_resolve skip_show_database slave_allow_batching slave_compressed_protocol slave_preserve_commit_order
         slave_sql_verify_checksum slow_query_log source_verify_checksum sql_generate_invisible_primary_key sql_require_primary_key
         ssl_session_cache_mode syseventlog.include_pid table_encryption_privilege_check temptable_use_mmap thread_pool_dedicated_listeners
         validate_password.check_user_name validate_password_check_user_name windowing_use_high_precision xa_detach_on_prepare",
    ),
    (
        Carried(ValueKind::Number),
        "
         auto_increment_increment auto_increment_offset back_log binlog_cache_size binlog_expire_logs_seconds
         binlog_group_commit_sync_delay binlog_group_commit_sync_no_delay_count binlog_max_flush_queue_time binlog_row_event_max_size
         binlog_stmt_cache_size binlog_transaction_compression_level_zstd binlog_transaction_dependency_history_size
         bulk_insert_buffer_size caching_sha2_password_digest_rounds clone_buffer_size clone_ddl_timeout clone_delay_after_data_drop
         clone_donor_timeout_after_network_failure clone_max_concurrency clone_max_data_bandwidth clone_max_network_bandwidth
         component_connection_control.failed_connections_threshold component_connection_control.max_connection_delay
         component_connection_control.min_connection_delay connect_timeout connection_control_failed_connections_threshold
         connection_control_max_connection_delay connection_control_min_connection_delay connection_memory_chunk_size
         connection_memory_limit connection_memory_status_limit cte_max_recursion_depth default_password_lifetime default_week_format
         delayed_insert_limit delayed_insert_timeout delayed_queue_size div_precision_increment eq_range_index_dive_limit expire_logs_days
         explain_json_format_version flush_time ft_max_word_len ft_min_word_len ft_query_expansion_limit generated_random_password_length
         global_connection_memory_limit global_connection_memory_status_limit group_concat_max_len gtid_executed_compression_period
         histogram_generation_max_mem_size host_cache_size information_schema_stats_expiry innodb_adaptive_flushing_lwm
         innodb_adaptive_hash_index_parts innodb_adaptive_max_sleep_delay innodb_api_bk_commit_interval innodb_api_trx_level
         innodb_autoextend_increment innodb_autoinc_lock_mode innodb_buffer_pool_chunk_size innodb_buffer_pool_dump_pct
         innodb_buffer_pool_instances innodb_buffer_pool_size innodb_change_buffer_max_size innodb_commit_concurrency
         innodb_compression_failure_threshold_pct innodb_compression_level innodb_compression_pad_pct_max innodb_concurrency_tickets
         innodb_ddl_buffer_size innodb_ddl_threads innodb_doublewrite_batch_size innodb_doublewrite_files innodb_doublewrite_pages
         innodb_fast_shutdown innodb_fill_factor innodb_flush_log_at_timeout innodb_flush_log_at_trx_commit innodb_flush_neighbors
         innodb_flushing_avg_loops innodb_fsync_threshold innodb_ft_cache_size innodb_ft_max_token_size innodb_ft_min_token_size
         innodb_ft_num_word_optimize innodb_ft_result_cache_limit innodb_ft_sort_pll_degree innodb_ft_total_cache_size
         innodb_idle_flush_pct innodb_io_capacity innodb_io_capacity_max innodb_lock_wait_timeout innodb_log_buffer_size
         innodb_log_file_size innodb_log_files_in_group innodb_log_spin_cpu_abs_lwm innodb_log_spin_cpu_pct_hwm
         innodb_log_wait_for_flush_spin_hwm innodb_log_write_ahead_size innodb_lru_scan_depth innodb_max_dirty_pages_pct
         innodb_max_dirty_pages_pct_lwm innodb_max_purge_lag innodb_max_purge_lag_delay innodb_max_undo_log_size innodb_old_blocks_pct
         innodb_old_blocks_time innodb_online_alter_log_max_size innodb_open_files innodb_page_cleaners innodb_parallel_read_threads
         innodb_purge_batch_size innodb_purge_rseg_truncate_frequency innodb_purge_threads innodb_read_ahead_threshold
         innodb_read_io_threads innodb_redo_log_capacity innodb_replication_delay innodb_rollback_segments innodb_segment_reserve_factor
         innodb_sort_buffer_size innodb_spin_wait_delay innodb_spin_wait_pause_multiplier innodb_stats_persistent_sample_pages
         innodb_stats_transient_sample_pages innodb_sync_array_size innodb_sync_spin_loops innodb_thread_concurrency
         innodb_thread_sleep_delay innodb_undo_tablespaces innodb_write_io_threads interactive_timeout join_buffer_size key_buffer_size
         key_cache_age_threshold key_cache_block_size key_cache_division_limit lock_wait_timeout log_error_verbosity
         log_throttle_queries_not_using_indexes long_query_time max_allowed_packet max_binlog_cache_size max_binlog_size
         max_binlog_stmt_cache_size max_connect_errors max_connections max_delayed_threads max_digest_length max_error_count
         max_execution_time max_heap_table_size max_join_size max_length_for_sort_data max_points_in_geometry max_prepared_stmt_count
         max_relay_log_size max_seeks_for_key max_sort_length max_sp_recursion_depth max_user_connections max_write_lock_count
         min_examined_row_limit myisam_data_pointer_size myisam_max_sort_file_size myisam_mmap_size myisam_sort_buffer_size
         net_buffer_length net_read_timeout net_retry_count net_write_timeout ngram_token_size open_files_limit
         optimizer_max_subgraph_pairs optimizer_prune_level optimizer_search_depth optimizer_trace_limit optimizer_trace_max_mem_size
         optimizer_trace_offset parser_max_mem_size password_history password_reuse_interval performance_schema_accounts_size
         performance_schema_digests_size performance_schema_error_size performance_schema_events_stages_history_long_size
         performance_schema_events_stages_history_size performance_schema_events_statements_history_long_size
         performance_schema_events_statements_history_size performance_schema_events_transactions_history_long_size
         performance_schema_events_transactions_history_size performance_schema_events_waits_history_long_size
         performance_schema_events_waits_history_size performance_schema_hosts_size performance_schema_max_cond_classes
         performance_schema_max_cond_instances performance_schema_max_digest_length performance_schema_max_digest_sample_age
         performance_schema_max_file_classes performance_schema_max_file_handles performance_schema_max_file_instances
         performance_schema_max_index_stat performance_schema_max_logger_classes performance_schema_max_memory_classes
         performance_schema_max_metadata_locks performance_schema_max_meter_classes performance_schema_max_metric_classes
         performance_schema_max_mutex_classes performance_schema_max_mutex_instances performance_schema_max_prepared_statements_instances
         performance_schema_max_program_instances performance_schema_max_rwlock_classes performance_schema_max_rwlock_instances
         performance_schema_max_socket_classes performance_schema_max_socket_instances performance_schema_max_sql_text_length
         performance_schema_max_stage_classes performance_schema_max_statement_classes performance_schema_max_statement_stack
         performance_schema_max_table_handles performance_schema_max_table_instances performance_schema_max_table_lock_stat
         performance_schema_max_thread_classes performance_schema_max_thread_instances performance_schema_session_connect_attrs_size
         performance_schema_setup_actors_size performance_schema_setup_objects_size performance_schema_users_size preload_buffer_size
         profiling_history_size query_alloc_block_size query_prealloc_size range_alloc_block_size range_optimizer_max_mem_size
         read_buffer_size read_rnd_buffer_size regexp_stack_limit regexp_time_limit relay_log_space_limit replica_checkpoint_group
         replica_checkpoint_period replica_max_allowed_packet replica_net_timeout replica_parallel_workers replica_pending_jobs_size_max
         replica_transaction_retries rewriter_verbose rpl_read_size rpl_semi_sync_master_timeout rpl_semi_sync_master_trace_level
         rpl_semi_sync_master_wait_for_slave_count rpl_semi_sync_replica_trace_level rpl_semi_sync_slave_trace_level
         rpl_semi_sync_source_timeout rpl_semi_sync_source_trace_level rpl_semi_sync_source_wait_for_replica_count rpl_stop_replica_timeout
         rpl_stop_slave_timeout schema_definition_cache secondary_engine_cost_threshold select_into_buffer_size select_into_disk_sync_delay
         server_id_bits set_operations_buffer_size slave_checkpoint_group slave_checkpoint_period slave_max_allowed_packet
         slave_net_timeout slave_parallel_workers slave_pending_jobs_size_max slave_transaction_retries slow_launch_time sort_buffer_size
         ssl_session_cache_timeout stored_program_cache stored_program_definition_cache sync_binlog sync_master_info sync_relay_log
         sync_relay_log_info sync_source_info table_definition_cache table_open_cache table_open_cache_instances table_open_cache_triggers
         tablespace_definition_cache temptable_max_mmap temptable_max_ram thread_cache_size thread_pool_algorithm
         thread_pool_connection_report_interval thread_pool_high_priority_connection thread_pool_longrun_trx_limit
         thread_pool_max_active_query_threads thread_pool_max_transactions_limit thread_pool_max_unused_threads
         thread_pool_prio_kickup_timer thread_pool_query_threads_per_group thread_pool_size thread_pool_stall_limit
         thread_pool_transaction_delay thread_stack tmp_table_size transaction_alloc_block_size transaction_prealloc_size
         validate_password.changed_characters_percentage validate_password.length validate_password.mixed_case_count
         validate_password.number_count validate_password.special_char_count validate_password_changed_characters_percentage
         validate_password_length validate_password_mixed_case_count validate_password_number_count validate_password_special_char_count
         wait_timeout",
    ),
    (
        Carried(ValueKind::Word),
        "
         binlog_checksum binlog_error_action binlog_format binlog_row_image binlog_row_metadata binlog_transaction_dependency_tracking
         block_encryption_mode caching_sha2_password_storage_format character_set_filesystem character_set_server collation_server
         completion_type concurrent_insert default_authentication_plugin default_storage_engine default_tmp_storage_engine delay_key_write
         explain_format external_table_secondary_storage_engine external_table_storage_engine innodb_change_buffering
         innodb_default_row_format innodb_doublewrite innodb_flush_method innodb_log_writer_threads innodb_stats_method
         internal_tmp_mem_storage_engine lc_messages lc_time_names log_timestamps myisam_stats_method replica_parallel_type
         rpl_semi_sync_master_wait_point rpl_semi_sync_source_wait_point session_track_gtids session_track_transaction_info
         slave_parallel_type ssl_fips_mode syseventlog.facility terminology_use_previous transaction_isolation
         transaction_write_set_extraction updatable_views_with_limit validate_password.policy validate_password_policy",
    ),
    (
        Carried(ValueKind::List),
        "
         admin_tls_version binlog_row_value_options disabled_storage_engines innodb_monitor_enable log_output myisam_recover_options
         optimizer_switch optimizer_trace optimizer_trace_features protocol_compression_algorithms replica_rows_search_algorithms
         replica_type_conversions session_track_system_variables slave_rows_search_algorithms slave_type_conversions sql_mode tls_version",
    ),
    (Carried(ValueKind::File), "innodb_buffer_pool_filename"),
    (
        Carried(ValueKind::Text),
        "
         admin_ssl_cipher admin_tls_ciphersuites authentication_policy dragnet.log_error_filter_rules ft_boolean_syntax init_connect
         innodb_ft_server_stopword_table innodb_ft_user_stopword_table log_error_suppression_list mandatory_roles
         persist_only_admin_x509_subject ssl_cipher syseventlog.tag tls_ciphersuites",
    ),
    (As("default_time_zone", ValueKind::Zone), "time_zone"),
    (
        DataFolders,
        "innodb_data_home_dir innodb_directories innodb_doublewrite_dir innodb_log_group_home_dir innodb_undo_directory",
    ),
    (Recreated, "log_bin log_bin_basename log_bin_index"),
    (Secure, "require_secure_transport"),
    (
        Certificate,
        "
         admin_ssl_ca admin_ssl_capath admin_ssl_cert admin_ssl_crl admin_ssl_crlpath admin_ssl_key ssl_ca ssl_capath ssl_cert ssl_crl
         ssl_crlpath ssl_key",
    ),
    (Host, "report_host"),
    (Told(REPORTED), "report_password report_user"),
    (
        Derived,
        "
         character_set_client character_set_connection character_set_database character_set_results collation_connection collation_database",
    ),
    (Statement("ON"), "foreign_key_checks sql_big_selects sql_notes sql_quote_show_create unique_checks"),
    (Statement("OFF"), "profiling sql_auto_is_null sql_buffer_result sql_log_off sql_safe_updates sql_warnings"),
    (Statement("18446744073709551615"), "sql_select_limit"),
    (Statement("utf8mb4_0900_ai_ci"), "default_collation_for_utf8mb4"),
    (ToldOn(APPLIERS), "transaction_read_only"),
    (Told(ADMIN), "admin_address admin_port create_admin_listener_thread mysqlx_*"),
    (Told(CLONE), "clone_ssl_ca clone_ssl_cert clone_ssl_key clone_valid_donor_list"),
    (
        Told(FILE),
        "
         ft_stopword_file init_file mecab_rc_file validate_password.dictionary_file validate_password_dictionary_file",
    ),
    (Told(HOST), "large_pages memlock super_large_pages user"),
    (
        Told(PLUGINS),
        "
         audit_log_* authentication_* daemon_memcached_* early_plugin_load keyring_* log_error_services mysql_firewall_* ndb_* ndbinfo_*
         plugin_load plugin_load_add telemetry.* version_tokens_*",
    ),
    (Told(REPLICATION), "group_replication_* init_replica init_slave"),
    (
        Told(UNSAFE),
        "
         innodb_force_load_corrupted innodb_force_recovery innodb_read_only replica_exec_mode replica_skip_errors skip_grant_tables
         slave_exec_mode slave_skip_errors",
    ),
    (Decided(IDENTITY), "hostname report_port server_id server_uuid"),
    (
        Decided(PLACE),
        "
         basedir caching_sha2_password_private_key_path caching_sha2_password_public_key_path character_sets_dir chroot datadir
         general_log_file innodb_redo_log_archive_dirs innodb_temp_tablespaces_dir innodb_tmpdir lc_messages_dir log_error mysqlx_socket
         pid_file plugin_dir relay_log relay_log_basename relay_log_index relay_log_info_file replica_load_tmpdir secure_file_priv
         sha256_password_private_key_path sha256_password_public_key_path slave_load_tmpdir slow_query_log_file socket
         tmpdir",
    ),
    (
        Decided(SERVE),
        "
         bind_address enforce_gtid_consistency event_scheduler gtid_mode innodb_buffer_pool_load_at_startup master_info_repository mysqlx
         offline_mode port read_only relay_log_info_repository rpl_semi_sync_master_enabled rpl_semi_sync_replica_enabled
         rpl_semi_sync_slave_enabled rpl_semi_sync_source_enabled skip_networking skip_replica_start skip_slave_start super_read_only",
    ),
    (
        Decided(STATE),
        "
         build_id character_set_system core_file gtid_executed gtid_owned gtid_purged have_* innodb_buffer_pool_dump_now
         innodb_buffer_pool_load_abort innodb_buffer_pool_load_now innodb_ft_aux_table innodb_monitor_disable innodb_monitor_reset
         innodb_monitor_reset_all innodb_version keyring_operations large_files_support large_page_size license locked_in_memory
         lower_case_file_system max_insert_delayed_threads mysqlbackup.backupid protocol_version pseudo_* rbr_exec_mode server_memory
         skip_external_locking sql_replica_skip_counter sql_slave_skip_counter system_time_zone thread_handling
         tls_certificates_enforced_validation version version_comment version_compile_* version_with_update",
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_variable_has_one_rule_in_sorted_order() {
        let mut all = BTreeSet::new();
        for (rule, names) in VARIABLE_RULES {
            let names: Vec<&str> = names.split_whitespace().collect();
            assert!(names.is_sorted(), "{rule}: {names:?}");
            names.iter().for_each(|name| assert!(all.insert(*name), "{name} has two rules"));
        }
        assert!(all.len() > 600, "{}", all.len());
    }

    #[test]
    fn only_families_without_a_carried_value_have_patterns() {
        for (name, rule) in rules().into_iter().filter(|(name, _)| name.ends_with('*')) {
            assert!(matches!(rule, Told(_) | Decided(_)), "{name}");
        }
        assert_eq!(rule_of("group_replication_local_address"), Some(Told(REPLICATION)));
        assert_eq!(rule_of("authentication_policy"), Some(Carried(ValueKind::Text)));
        assert_eq!(rule_of("have_\n"), None);
    }
}

//! The outside: topology, secrets, MySQL, snapshots.

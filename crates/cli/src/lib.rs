//! The backstop command.

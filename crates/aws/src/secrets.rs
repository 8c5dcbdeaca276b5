//! Secrets in Secrets Manager.

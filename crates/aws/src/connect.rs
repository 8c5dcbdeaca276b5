//! How the AWS APIs are reached.

//! Permission to create a repository.

/// `repository.create`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CreateRepository {
    /// Only `backstop init`.
    #[default]
    Never,
    /// Also the first backup, and the first start of the archiver, if the repository is empty.
    IfEmpty,
}

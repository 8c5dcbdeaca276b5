//! A page that is worked through from top to bottom.

use std::collections::VecDeque;

use backstop_cli::runbooks::{self, CommandBlock};

use crate::support::shell_session::ShellSession;

/// A page with the commands that are still to be pasted.
pub struct PastedPage {
    name: &'static str,
    left: VecDeque<CommandBlock>,
}

impl PastedPage {
    /// Opens a page.
    pub fn open(name: &'static str) -> Self {
        let page = runbooks::find(name).unwrap_or_else(|| panic!("there is no page {name}"));
        Self { name, left: runbooks::blocks(page.text).into() }
    }

    /// Pastes the next commands, which are below this heading and must succeed. Returns their
    /// output.
    pub async fn next(&mut self, night: &ShellSession, heading: &str) -> String {
        let block = self.take(heading);
        night.paste(&block.commands).await
    }

    /// Pastes the next commands at a terminal without a configuration.
    pub async fn next_without_configuration(&mut self, night: &ShellSession, heading: &str) -> String {
        let block = self.take(heading);
        night.paste_with(&block.commands, &[]).await
    }

    fn take(&mut self, heading: &str) -> CommandBlock {
        let block = self.left.pop_front().unwrap_or_else(|| panic!("{} has no commands left", self.name));
        assert!(block.heading.contains(heading), "{}: `{}` is not `{heading}`", self.name, block.heading);
        block
    }

    /// Checks that every command of the page was pasted.
    pub fn end(&self) {
        assert_eq!(
            self.left.len(),
            0,
            "{} has commands that the test leaves out: {:?}",
            self.name,
            self.left
        );
    }
}

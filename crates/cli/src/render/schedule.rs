//! `schedule`.

use crate::page::{Page, Screen};
use crate::systemd::ScheduleUnits;

impl Screen for ScheduleUnits {
    fn draw(&self, page: &mut Page) {
        for unit in [&self.service, &self.timer] {
            page.gap();
            page.line(format!("# {}", unit.path.display()));
            unit.content.lines().for_each(|line| page.line(line));
        }
        page.gap();
        page.line("# Put the two parts into the files that their first lines name, then:");
        for command in &self.install {
            page.line(format!("#   {command}"));
        }
    }
}

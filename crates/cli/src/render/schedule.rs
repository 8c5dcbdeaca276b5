//! Text output of `schedule`.

use crate::systemd::ScheduleUnits;
use crate::text::{RenderText, TextWriter};

impl RenderText for ScheduleUnits {
    fn render_text(&self, out: &mut TextWriter) {
        for unit in [&self.service, &self.timer] {
            out.blank_line();
            out.line(format!("# {}", unit.path.display()));
            unit.content.lines().for_each(|line| out.line(line));
        }
        out.blank_line();
        out.line("# Save the two parts as the files that their first lines name, then run:");
        for command in &self.install {
            out.line(format!("#   {command}"));
        }
    }
}

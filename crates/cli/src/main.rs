//! The `backstop` program: the only place that exits.

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use backstop_adapters::clock::SystemClock;
use backstop_cli::args::CommandLine;
use backstop_cli::commands;
use backstop_cli::faults::FromEnvironment;
use backstop_cli::output::Output;
use backstop_cli::progress::{Narrator, narrator};
use backstop_cli::stop::Signals;
use backstop_cli::terminal::Terminal;
use backstop_engine::world::World;
use backstop_model::fault::{Context, Fault, Kind, Result};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let line = match CommandLine::read(&arguments) {
        Ok(line) => line,
        Err(wrong) => return ExitCode::from(backstop_cli::usage::explain(wrong, &arguments)),
    };
    let terminal = Terminal::of(&line.global);
    let clock = Arc::new(SystemClock::new());
    let narrator = narrator(&terminal, clock.clone());
    let output = Output::new(terminal).beside(narrator.clone());
    backstop_cli::panics::install();
    backstop_cli::logs::begin(&terminal, narrator.clone());
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| begin(&line, clock, narrator, &output)));
    ExitCode::from(match ended {
        Ok(Ok(0)) if output.is_lost() => Kind::Failed.exit_code(),
        Ok(Ok(code)) => code,
        Ok(Err(fault)) => {
            output.fault(&fault);
            fault.kind.exit_code()
        }
        Err(_) => {
            output.defect();
            Kind::Failed.exit_code()
        }
    })
}

fn begin(
    line: &CommandLine,
    clock: Arc<SystemClock>,
    narrator: Arc<dyn Narrator>,
    output: &Output,
) -> Result<u8> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| Fault::failed("prepare TLS: another provider is installed"))?;
    let runtime = tokio::runtime::Runtime::new().failed("start the runtime")?;
    let ended = runtime.block_on(run(line, clock, narrator, output));
    // Work that cannot be cancelled (a file system call that hangs) does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn run(
    line: &CommandLine,
    clock: Arc<SystemClock>,
    narrator: Arc<dyn Narrator>,
    output: &Output,
) -> Result<u8> {
    let (signals, stop) = Signals::listen()?;
    let world = World { clock, reporter: narrator.clone(), faults: Arc::new(FromEnvironment::new()), stop };
    let ended = signals.guard(narrator, commands::run(line, world, output)).await?;
    Ok(ended.exit_code())
}

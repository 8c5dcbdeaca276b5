//! The `backstop` program: the only file that exits.

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use backstop_cli::args::CommandLine;
use backstop_cli::commands;
use backstop_cli::failpoints::EnvFailpoints;
use backstop_cli::output::Output;
use backstop_cli::private_process::keep_private;
use backstop_cli::progress::{ProgressOutput, progress_output};
use backstop_cli::signals::Signals;
use backstop_cli::terminal::Terminal;
use backstop_engine::context::RunContext;
use backstop_host::Host;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let line = match CommandLine::read(&arguments) {
        Ok(line) => line,
        Err(wrong) => return ExitCode::from(backstop_cli::parse_args::explain(wrong, &arguments)),
    };
    let terminal = Terminal::of(&line.global);
    let host = Host::system();
    let progress_output = progress_output(&terminal, host.clock.clone());
    let output = Output::new(terminal).beside(progress_output.clone());
    backstop_cli::panic_hook::install_panic_hook();
    backstop_cli::logging::init_logging(&terminal, progress_output.clone());
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| begin(&line, host, progress_output, &output)));
    ExitCode::from(match ended {
        Ok(Ok(0)) if output.is_lost() => ErrorKind::Failed.exit_code(),
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            output.error(&error);
            error.kind.exit_code()
        }
        Err(_) => {
            output.defect();
            ErrorKind::Failed.exit_code()
        }
    })
}

fn begin(
    line: &CommandLine,
    host: Host,
    progress_output: Arc<dyn ProgressOutput>,
    output: &Output,
) -> Result<u8> {
    keep_private()?;
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| Error::failed("cannot prepare TLS: another provider is installed"))?;
    let runtime = tokio::runtime::Runtime::new().failed("cannot start the runtime")?;
    let ended = runtime.block_on(run(line, host, progress_output, output));
    // Work that cannot be cancelled (a file system call that hangs) does not keep the process
    // alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn run(
    line: &CommandLine,
    host: Host,
    progress_output: Arc<dyn ProgressOutput>,
    output: &Output,
) -> Result<u8> {
    let (signals, stop) = Signals::listen()?;
    let ctx = RunContext {
        host,
        reporter: progress_output.clone(),
        failpoints: Arc::new(EnvFailpoints::new()),
        stop,
    };
    let ended = signals.guard(progress_output, commands::run(line, ctx, output)).await?;
    Ok(ended.exit_code())
}

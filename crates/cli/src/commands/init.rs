//! `backstop init`.

use backstop_model::fault::Result;
use backstop_model::report::InitReport;

use super::Ended;
use crate::compose::App;
use crate::output::Output;

/// Makes the repository, or says that there is one.
///
/// # Errors
/// As [`App::make_repository`].
pub async fn run(app: &App, output: &Output) -> Result<Ended> {
    let (repository, made) = app.world.unless_stopped(app.make_repository()).await?;
    let settings = &app.settings.repository;
    output.report(&InitReport {
        repository: repository.id(),
        url: settings.url.to_string(),
        made,
        encrypted: settings.encryption_key.is_some(),
        pinned: settings.id.is_some(),
    });
    Ok(Ended::Well)
}

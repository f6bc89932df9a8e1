//! `bowline preset`: the providers that Bowline knows.

use bowline_proto::v1;
use clap::{Args, Subcommand};

use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::PresetView;

#[derive(Debug, Subcommand)]
pub enum PresetCommand {
    /// List the presets, the best known first, with what a source of each must give
    List,
    /// Show what is known of one
    Show(Show),
}

#[derive(Debug, Args)]
pub struct Show {
    /// Its name or an alias
    name: String,
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: PresetCommand, admin: &Admin, form: Form) -> Result<(), Failure> {
    let name = match command {
        PresetCommand::List => String::new(),
        PresetCommand::Show(show) if show.name.is_empty() => {
            return Err(Failure::Usage("the name of the preset is empty".to_owned()));
        }
        PresetCommand::Show(show) => show.name,
    };
    let one = !name.is_empty();
    let presets = admin.sources().list_presets(v1::ListPresetsRequest { name }).await?.into_inner().presets;
    let mut views: Vec<PresetView> = presets.into_iter().map(Into::into).collect();
    match views.pop() {
        Some(view) if one => output::one(form, &view, &view.lines()),
        last => {
            views.extend(last);
            output::list(form, "presets", &views, "")
        }
    }
}

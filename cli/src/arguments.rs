//! What the command line can say.

use clap::{Parser, Subcommand};

use crate::client::{Admin, AdminArguments};
use crate::command::{
    api_key, audit, binding, by_hand, dead_letter, delivery, endpoint, event, event_type, migrate, name,
    payload, preset, publish, rejection, source, tenant, trigger, verify,
};
use crate::dev;
use crate::failure::Failure;
use crate::output::Form;

/// Webhooks in, webhooks out, nothing lost.
#[derive(Debug, Parser)]
#[command(
    name = "bowline",
    version,
    propagate_version = true,
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 64 a setting is missing or wrong.
Start here: `bowline dev` runs all of Bowline on this machine and prints the address and key to use."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    admin: AdminArguments,
    /// A table for people, or one JSON document for scripts
    #[arg(long, short, global = true, value_enum, default_value_t = Form::Table, value_name = "FORM")]
    output: Form,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Where inbound webhooks come in
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Where outbound webhooks go
    #[command(subcommand)]
    Endpoint(endpoint::EndpointCommand),
    /// Send a source a realistic example of its provider, signed as the provider signs
    #[command(after_help = "Examples:
  bowline trigger github --source pushes --secret-env GITHUB_SECRET
  bowline trigger stripe --url http://127.0.0.1:8080/webhooks/stripe --secret-file stripe.secret")]
    Trigger(trigger::TriggerArguments),
    /// Judge signed requests of a file offline, by the presets or a scheme of your own
    #[command(after_help = verify::HELP)]
    Verify(verify::VerifyArguments),
    /// Publish an event of an app of yours
    #[command(after_help = "Examples:
  bowline publish --type order.created --data '{\"id\": 7}'
  bowline publish --type order.created --idempotency-key order-7 < order.json")]
    Publish(Box<publish::Publish>),
    /// What came in
    #[command(subcommand)]
    Event(event::EventCommand),
    /// The catalog: which event types there are, and what their payloads must be
    #[command(
        subcommand,
        after_help = "The tenant says whether it is strict: `bowline tenant update NAME --strict-event-catalog true`.
Then what is published with a type that is not in it is refused; what a source receives with one is kept, flagged
(`bowline event list`) and delivered to nobody."
    )]
    EventType(event_type::EventTypeCommand),
    /// The providers that Bowline knows
    #[command(subcommand)]
    Preset(preset::PresetCommand),
    /// What a source has refused, and why
    #[command(subcommand)]
    Rejection(rejection::RejectionCommand),
    /// Questions about what a source has received
    #[command(subcommand)]
    Payload(payload::PayloadCommand),
    /// Queries whose answers are kept fresh
    #[command(subcommand)]
    Binding(binding::BindingCommand),
    /// What was sent, what came back, what still waits
    #[command(subcommand)]
    Delivery(delivery::DeliveryCommand),
    /// What could not be delivered, and its second chance
    #[command(subcommand)]
    DeadLetter(dead_letter::DeadLetterCommand),
    /// Whose data there is
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Who may call the admin API
    #[command(subcommand)]
    ApiKey(api_key::ApiKeyCommand),
    /// Who did what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(flatten)]
    ByHand(by_hand::ByHandCommand),
    /// Bring the schema of a database up to date
    Migrate(migrate::MigrateArguments),
    /// Run all of Bowline on this machine: private Postgres and Redis, ingest, dispatcher
    #[command(after_help = "For one machine only: loopback receivers are allowed, reflection is open.
Needs the programs of PostgreSQL and Redis, not their services. Ctrl-C or SIGTERM stops all of it.")]
    Dev(dev::DevArguments),
}

impl Command {
    /// Whether it is about what a tenant has. Otherwise the one that is named may not be there yet, or
    /// there may be no admin API at all.
    fn works_in_a_tenant(&self) -> bool {
        !matches!(
            self,
            Self::Tenant(_)
                | Self::Preset(_)
                | Self::Trigger(_)
                | Self::Verify(_)
                | Self::Migrate(_)
                | Self::Dev(_)
        )
    }
}

impl Arguments {
    /// Does what was asked.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn run(self) -> Result<(), Failure> {
        let url = self.admin.admin_url.clone();
        self.dispatch().await.map_err(|failure| failure.at(&url))
    }

    async fn dispatch(self) -> Result<(), Failure> {
        let Self { command, mut admin, output: form } = self;
        if command.works_in_a_tenant() {
            admin.tenant = name::tenant_id(&Admin::new(&admin)?, &admin.tenant).await?;
        }
        let tenant = admin.tenant.as_str();
        match command {
            Command::Publish(arguments) => publish::run(*arguments, &Admin::new(&admin)?, tenant, form).await,
            Command::Source(command) => source::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::Endpoint(command) => endpoint::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::Trigger(arguments) => trigger::run(arguments, &admin, form).await,
            Command::Verify(arguments) => verify::run(&arguments),
            Command::Event(command) => event::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::EventType(command) => event_type::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::Preset(command) => preset::run(command, &Admin::new(&admin)?, form).await,
            Command::Rejection(command) => rejection::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::Payload(command) => payload::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::Binding(command) => binding::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::Delivery(command) => delivery::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::DeadLetter(command) => {
                dead_letter::run(command, &Admin::new(&admin)?, tenant, form).await
            }
            Command::Tenant(command) => tenant::run(command, &Admin::new(&admin)?, form).await,
            Command::ApiKey(command) => api_key::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::Audit(command) => audit::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::ByHand(command) => by_hand::run(command, &Admin::new(&admin)?, tenant, form).await,
            Command::Migrate(arguments) => migrate::run(arguments).await,
            Command::Dev(arguments) => dev::run(arguments).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_argument_takes_a_secret_itself() {
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(
                    !["secret", "key", "admin-key", "password", "token"].contains(&argument),
                    "{argument}"
                );
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn every_command_and_every_argument_has_its_help() {
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let standard = ["help", "version"].contains(&argument.get_id().as_str());
                assert!(standard || argument.get_help().is_some(), "{} {argument}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    /// `attempts_exhausted`, as tables and documents have it.
    #[test]
    fn a_value_is_taken_as_it_is_printed() {
        let mut commands = vec![Arguments::command()];
        let mut seen = 0;
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                for value in argument.get_possible_values() {
                    let printed = value.get_name().replace('-', "_");
                    assert!(value.matches(&printed, false), "{} {argument}: {printed}", command.get_name());
                    seen += usize::from(printed != value.get_name());
                }
            }
            commands.extend(command.get_subcommands().cloned());
        }
        assert!(seen > 20, "{seen}");
        let redrive = ["bowline", "redrive", "--reason", "attempts_exhausted"];
        assert!(Arguments::try_parse_from(redrive).is_ok());
    }

    #[test]
    fn a_source_is_said_in_one_way_of_two() {
        for ask in [&["rejection", "list"][..], &["payload", "latest"], &["payload", "list"]] {
            let parses =
                |which: &[&str]| Arguments::try_parse_from([&["bowline"][..], ask, which].concat()).is_ok();
            assert!(parses(&["a"]) && parses(&["--source", "a"]), "{ask:?}");
            assert!(!parses(&[]) && !parses(&["a", "--source", "a"]), "{ask:?}");
        }
        assert!(Arguments::try_parse_from(["bowline", "replay", "--endpoint", "a", "--all"]).is_ok());
    }

    #[test]
    fn only_one_place_for_a_secret() {
        let both = ["bowline", "source", "create", "a", "--secret-env", "B", "--secret-stdin"];
        assert!(Arguments::try_parse_from(both).is_err());
    }

    #[test]
    fn either_a_limit_or_everything() {
        let both = ["bowline", "event", "list", "--limit", "5", "--all"];
        assert!(Arguments::try_parse_from(both).is_err());
        assert!(Arguments::try_parse_from(["bowline", "event", "list", "--all"]).is_ok());
    }
}

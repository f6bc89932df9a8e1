//! `bowline operation`: bulk work, such as replays and redrives.

use bowline_proto::v1;
use clap::Subcommand;
use serde::Serialize;

use super::word;
use crate::client::Admin;
use crate::command::there;
use crate::failure::Failure;
use crate::output::{self, Form, Growing, Row};

#[derive(Debug, Subcommand)]
pub enum OperationCommand {
    /// List operations, newest first
    List,
    /// Show one operation
    Get {
        /// Id of the operation: `op_...`
        id: String,
    },
    /// Follow an operation until it ends
    Watch {
        /// Id of the operation: `op_...`
        id: String,
    },
    /// End an operation; what it has queued stays queued
    Cancel {
        /// Id of the operation: `op_...`
        id: String,
    },
}

#[derive(Debug, Serialize)]
pub(in crate::command) struct OperationView {
    id: String,
    work: &'static str,
    state: String,
    done_count: i64,
    skipped_count: i64,
    estimated_count: i64,
    rate_per_second: i32,
    error: String,
}

impl From<v1::Operation> for OperationView {
    fn from(operation: v1::Operation) -> Self {
        Self {
            state: word(operation.state().as_str_name(), "OPERATION_STATE_"),
            work: match operation.work {
                Some(v1::operation::Work::Redrive(_)) => "redrive",
                Some(v1::operation::Work::Replay(_)) => "replay",
                None => "",
            },
            id: operation.id,
            done_count: operation.done_count,
            skipped_count: operation.skipped_count,
            estimated_count: operation.estimated_count,
            rate_per_second: operation.rate_per_second,
            error: operation.error,
        }
    }
}

impl OperationView {
    pub(in crate::command) fn show(&self, form: Form) -> Result<(), Failure> {
        let lines = [
            ("id", self.id.clone()),
            ("work", self.work.to_owned()),
            ("state", self.state.clone()),
            ("queued", self.done_count.to_string()),
            ("left alone", self.skipped_count.to_string()),
            ("of about", self.estimated_count.to_string()),
            ("a second", self.rate_per_second.to_string()),
            ("error", self.error.clone()),
        ];
        output::one(form, self, &lines)
    }

    /// Of one that was just begun; in a table with how to follow it.
    pub(in crate::command) fn begun(&self, form: Form) -> Result<(), Failure> {
        self.show(form)?;
        if form == Form::Table {
            eprintln!("it goes on: bowline operation watch {}", output::printable(&self.id));
        }
        Ok(())
    }
}

impl Row for OperationView {
    const HEADINGS: &'static [&'static str] = &["ID", "WORK", "STATE", "QUEUED", "LEFT ALONE", "OF ABOUT"];
    const SPARSE: &'static [&'static str] = &["OF ABOUT"];

    fn cells(&self) -> Vec<String> {
        // The estimate counts what will be left alone too: once it has ended, it only reads as unfinished.
        let of_about = match self.state.as_str() {
            "pending" | "running" => self.estimated_count.to_string(),
            _ => String::new(),
        };
        vec![
            self.id.clone(),
            self.work.to_owned(),
            self.state.clone(),
            self.done_count.to_string(),
            self.skipped_count.to_string(),
            of_about,
        ]
    }
}

pub(super) async fn run(
    command: OperationCommand,
    admin: &Admin,
    tenant: &str,
    form: Form,
) -> Result<(), Failure> {
    let mut operations = admin.operations();
    match command {
        OperationCommand::List => {
            let request = v1::ListOperationsRequest {
                tenant_id: tenant.to_owned(),
                ..v1::ListOperationsRequest::default()
            };
            let page = operations.list_operations(request).await?.into_inner();
            let views: Vec<OperationView> = page.operations.into_iter().map(Into::into).collect();
            output::list(form, "operations", &views, &page.next_page_token)
        }
        OperationCommand::Get { id } => {
            let answer = operations.get_operation(v1::GetOperationRequest { id }).await?.into_inner();
            OperationView::from(there(answer.operation, "operation")?).show(form)
        }
        OperationCommand::Watch { id } => {
            let request = v1::WatchOperationRequest { id };
            let mut messages = operations.watch_operation(request).await?.into_inner();
            let mut table = Growing::default();
            while let Some(message) = messages.message().await? {
                let operation = there(message.operation, "operation")?;
                let view = OperationView::from(operation);
                match form {
                    Form::Json => view.show(form)?,
                    Form::Table => table.show(&view)?,
                }
            }
            Ok(())
        }
        OperationCommand::Cancel { id } => {
            let answer = operations.cancel_operation(v1::CancelOperationRequest { id }).await?.into_inner();
            OperationView::from(there(answer.operation, "operation")?).show(form)
        }
    }
}

//! Stored resources as the API shows them.

mod binding;
mod delivery;
mod endpoint;
mod event_type;
mod operation;
mod presets;
mod rejection;
mod secret;
mod source;

pub(crate) use binding::binding;
pub(crate) use delivery::{attempt, dead_letter, delivery, event};
pub(crate) use endpoint::endpoint;
pub(crate) use event_type::event_type;
pub(crate) use operation::operation;
pub(crate) use presets::preset;
pub(crate) use rejection::rejection;
pub(crate) use source::{source, stored_source};

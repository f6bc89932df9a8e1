//! From path and method to the source that is meant.

use std::sync::Arc;

use bowline_core::id::SourceId;
use bowline_core::preset::Preset;
use bowline_core::snapshot::{LiveSource, Snapshot};
use bowline_core::store;
use http::{Method, StatusCode};

use bowline_core::inbound::{RETRY_LATER, Refusal, method_not_allowed};

/// No path of a source is longer, so a longer one is not looked for.
const PATH_BYTES_MAX: usize = 256;

/// Which source a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Id(SourceId),
    Path(String),
}

impl Route {
    /// `None` for a path that no source can have.
    pub(crate) fn of(path: &str) -> Option<Self> {
        if let Some(id) = path.strip_prefix("/in/") {
            return id.parse().ok().map(Self::Id);
        }
        let possible = path.len() > 1 && path.len() <= PATH_BYTES_MAX && path.starts_with('/');
        possible.then(|| Self::Path(path.to_owned()))
    }

    fn look_up(&self, snapshot: &Snapshot) -> Option<Arc<LiveSource>> {
        match self {
            Self::Id(id) => snapshot.source(*id),
            Self::Path(path) => snapshot.source_by_path(path),
        }
    }

    /// The source as this replica knows it now. One it does not know may be a moment old: then it asks
    /// the database before it says no.
    pub(crate) async fn find(&self, snapshot: &Snapshot) -> Result<Arc<LiveSource>, Refusal> {
        let mut found = self.look_up(snapshot);
        if found.is_none() {
            let looked = match self {
                Self::Id(id) => Box::pin(snapshot.refresh_for_unknown(&id.to_string())).await,
                Self::Path(path) => Box::pin(snapshot.refresh_for_unknown(path)).await,
            };
            looked.map_err(|error| unreadable_source(&error))?;
            found = self.look_up(snapshot);
        }
        found.filter(|live| live.source.enabled).ok_or_else(unknown_source)
    }
}

/// Disabled ones are answered alike: whether a source exists is nobody's business.
pub(crate) fn unknown_source() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "unknown_source",
        "there is no enabled source at this path; compare it with the source's receive_url",
    )
}

/// Nobody can say now whether there is such a source: the sender must not take it for gone.
pub(crate) fn unreadable_source(error: &store::Error) -> Refusal {
    tracing::warn!(%error, "the configuration cannot be read");
    Refusal::unavailable(
        "unavailable",
        "the source cannot be looked up now; send it again later",
        RETRY_LATER,
    )
}

/// A method is fine when an event or a handshake of the preset can come with it.
pub(crate) fn check_method(method: &Method, preset: &Preset) -> Result<(), Refusal> {
    if method == Method::POST || preset.handshake_methods().any(|known| known == method.as_str()) {
        return Ok(());
    }
    Err(method_not_allowed(preset))
}

#[cfg(test)]
mod tests {
    use bowline_core::preset;

    use super::*;

    #[test]
    fn a_path_names_a_source_by_id_or_as_it_stands() {
        let id = SourceId::new();
        assert_eq!(Route::of(&format!("/in/{id}")), Some(Route::Id(id)));
        assert_eq!(Route::of("/webhooks/stripe"), Some(Route::Path("/webhooks/stripe".into())));
        // Under /in/ there are ids alone.
        for nothing in ["", "/", "/in/", "/in/nonsense", "/in/evt_01h2xcejqtf2nbrexx3vqjhp41", "*"] {
            assert_eq!(Route::of(nothing), None, "{nothing}");
        }
        assert_eq!(Route::of(&format!("/in/{id}/more")), None);
        assert_eq!(Route::of(&format!("/{}", "x".repeat(PATH_BYTES_MAX))), None);
        assert!(Route::of(&format!("/{}", "x".repeat(PATH_BYTES_MAX - 1))).is_some());
    }

    #[test]
    fn another_method_than_post_is_refused_with_what_is_allowed() {
        let github = preset::find("github").unwrap();
        assert!(check_method(&Method::POST, github).is_ok());
        for method in [Method::GET, Method::PUT, Method::HEAD, Method::OPTIONS] {
            let refusal = check_method(&method, github).unwrap_err();
            assert_eq!(
                (refusal.status, refusal.allow.as_deref()),
                (StatusCode::METHOD_NOT_ALLOWED, Some("POST"))
            );
        }
    }
}

//! What an error of a journal statement means for its rows.

use crate::store;

/// Why a statement was not, or may not have been, committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Something in the rows.
    Data(String),
    Partition,
    /// Some of the rows are there already: an earlier commit has happened after all.
    Repeated,
    /// The ordered endpoints have changed since the rows were matched to them: nothing was written.
    Changed,
    /// Not the rows' fault: the same rows may pass later.
    Passing,
}

/// `closed`: the connection has ended meanwhile.
pub(super) fn classify(error: &store::Error, closed: bool) -> Failure {
    if error.is_missing_partition() {
        return Failure::Partition;
    }
    if error.is_repeated_row() {
        return Failure::Repeated;
    }
    let store::Error::Postgres(error) = error else { return Failure::Passing };
    let Some(db) = error.as_db_error() else {
        // Without an answer of the server: the connection, or a value that could not be sent.
        let io = std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
        return if closed || error.is_closed() || io {
            Failure::Passing
        } else {
            Failure::Data(error.to_string())
        };
    };
    match db.code().code().get(..2) {
        // Data exception, integrity violation, a limit of the server passed by a value.
        Some("22" | "23" | "54") => Failure::Data(db.message().to_owned()),
        _ => Failure::Passing,
    }
}

//! What the secrets of one owner are called, and so what each is for.

use super::StoredSecret;

/// The one that signs and verifies; several versions of it live side by side while it is rotated.
pub const SIGNING: &str = "default";

/// The value of a header that an endpoint sends along; header names have no case.
pub fn of_header(header: &str) -> String {
    format!("header:{}", header.to_ascii_lowercase())
}

impl StoredSecret {
    /// Whether it is the one that signs or verifies, and not a credential of another kind.
    pub fn is_signing(&self) -> bool {
        self.name == SIGNING
    }
}

//! What the secrets of one owner are called, and so what each is for.

use super::StoredSecret;

/// The one that signs and verifies; several versions of it live side by side while it is rotated.
pub const SIGNING: &str = "default";

/// Of Basic authentication.
pub const PASSWORD: &str = "auth:password";
/// Of Bearer authentication.
pub const TOKEN: &str = "auth:token";
/// With which access tokens are fetched.
pub const CLIENT_SECRET: &str = "auth:client_secret";
/// The private key of a client certificate, PEM.
pub const CLIENT_KEY: &str = "tls:client_key";

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

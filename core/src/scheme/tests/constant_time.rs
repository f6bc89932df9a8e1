//! What a secret is, or makes, cannot be compared with `==`, which ends at the first byte that differs:
//! `secrets::is_same` is the one way, and a test beside it looks for others.

use crate::scheme::asymmetric::PrivateKey;
use crate::scheme::encoding::Decoded;
use crate::scheme::key::{KeyForm, Material};
use crate::scheme::mac::{HashState, HmacState, Tag};
use crate::scheme::{Algorithm, Encoding, Key};

/// Does not compile for a type that is `PartialEq` to itself: there are two `check`s then.
macro_rules! not_comparable {
    ($($type:ty),+ $(,)?) => {$({
        trait Check<A> {
            fn check() {}
        }
        impl<T: ?Sized> Check<()> for T {}
        impl<T: ?Sized + PartialEq> Check<u8> for T {}
        <$type as Check<_>>::check();
    })+};
}

#[test]
fn keys_codes_and_signatures_have_no_equals_sign() {
    not_comparable!(Key, KeyForm, Material, HmacState, HashState, PrivateKey, Tag, Decoded);
}

#[test]
fn a_code_is_all_of_a_signature_and_nothing_less() {
    let mut mac = HmacState::new(Algorithm::HmacSha256, b"bowline-test").unwrap();
    mac.update(b"{}");
    let tag = mac.finish();
    let right = hex::encode(tag.to_write());
    let is = |text: &str| tag.is(&Encoding::Hex.decode(text, false).unwrap());
    assert!(is(&right));
    assert!(!is(&right[..62]) && !is(&format!("{right}00")) && !is(&"00".repeat(600)));
    for at in 0..right.len() {
        let other = if &right[at..=at] == "0" { "1" } else { "0" };
        let changed = format!("{}{other}{}", &right[..at], &right[at + 1..]);
        assert!(!is(&changed), "{at}");
    }
}

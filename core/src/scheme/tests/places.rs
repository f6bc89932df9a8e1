//! Where values stand: in a header that is there more than once.

use super::{Sent, keys, scheme};
use crate::scheme::StatusHint;

const NOW: i64 = 1_767_312_000;

/// HMAC-SHA256 of `17`, computed apart from this engine with `openssl dgst -hmac k`.
const OF_17: &str = "039b53ec46e91f83a33874321401b48dd51cf5fb75ed453c7c0529349958496d";

#[test]
fn any_of_a_list_of_signatures_wins_however_often_its_header_is_there() {
    for layout in [
        "item_sep=' ',kv_sep=',',signature_key='v1'",
        "item_sep=';',kv_sep=',',signature_key='v1'",
        "item_sep_any=' ;',kv_sep=',',signature_key='v1'",
    ] {
        let scheme = scheme(&format!(
            "algorithm='hmac-sha256'\ncontent='{{body}}'\nsignature={{sources=['header:x-sig'],layout={{{layout}}}}}"
        ));
        let active = keys(&scheme, &["k"]);
        let (right, wrong) = (format!("v1,{OF_17}"), format!("v1,{}", "00".repeat(32)));
        let (right, wrong) = (right.as_str(), wrong.as_str());
        for values in [[right, wrong], [wrong, right], ["v2,x", right], [right, "junk"]] {
            sent_times("x-sig", &values).verify(&scheme, &active, NOW).unwrap();
            sent_times("x-sig", &[&values.join(", ")]).verify(&scheme, &active, NOW).unwrap();
        }
        let fault = sent_times("x-sig", &[wrong, wrong]).verify(&scheme, &active, NOW).unwrap_err();
        assert!(fault.to_string().contains("(2 given"), "{fault}");
    }
}

#[test]
fn what_there_is_one_of_is_refused_when_it_comes_twice_and_the_refusal_says_so() {
    let signed = scheme(
        "algorithm='hmac-sha256'\ncontent='{timestamp}{body}'\nsignature={sources=['header:x-sig']}\n\
         timestamp={sources=['header:x-ts'],unit='s'}",
    );
    let active = keys(&signed, &["k"]);
    let with = |headers: &[(&str, &str)]| Sent::new(headers, "").verify(&signed, &active, 17);
    let (signature, stamp) = (("x-sig", OF_17), ("x-ts", "17"));
    with(&[signature, stamp]).unwrap();
    for (headers, says) in [
        ([signature, signature, stamp], "`x-sig` is malformed: it was sent 2 times, and this scheme has one"),
        ([signature, stamp, stamp], "`x-ts` is malformed: it was sent 2 times, and this scheme has one"),
    ] {
        let fault = with(&headers).unwrap_err();
        assert_eq!((fault.code(), fault.status_hint()), ("malformed_header", StatusHint::BadRequest));
        assert!(fault.to_string().contains(says), "{fault}");
    }

    let token = scheme("algorithm='token'\nsignature={sources=['header:x-token']}");
    let fault = sent_times("x-token", &["a", "a"]).verify(&token, &keys(&token, &["a"]), NOW).unwrap_err();
    assert!(fault.to_string().contains("2 times"), "{fault}");
}

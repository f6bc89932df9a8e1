//! Where values stand: in a header that is there more than once, in JSON, in forms.

use super::{Sent, keys, scheme};
use crate::scheme::{InboundRequest, StatusHint};

const NOW: i64 = 1_767_312_000;

/// HMAC-SHA256 of `17`, computed apart from this engine with `openssl dgst -hmac k`.
const OF_17: &str = "039b53ec46e91f83a33874321401b48dd51cf5fb75ed453c7c0529349958496d";

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

fn sent_times(name: &str, values: &[&str]) -> Sent {
    let headers: Vec<(&str, &str)> = values.iter().map(|value| (name, *value)).collect();
    Sent::new(&headers, "17")
}

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

#[test]
fn a_form_and_json_can_hold_the_same_values() {
    let either = scheme(
        "algorithm='hmac-sha256'\ncontent='{json:/t}'\ncontent_also=['{form:t}']\nbody_bound=false\n\
         signature={sources=['json:/s','form:s']}",
    );
    let active = keys(&either, &["k"]);
    let verify = |content_type, body: &str| Sent::new(&[content_type], body).verify(&either, &active, NOW);
    let json = |rest: &str| format!(r#"{{"t":"17","s":"{OF_17}"{rest}}}"#);
    verify(JSON, &json("")).unwrap();
    verify(FORM, &json("")).unwrap();
    verify(FORM, &format!("t=17&s={OF_17}")).unwrap();
    let multipart = format!(
        "--x\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\n17\r\n\
         --x\r\nContent-Disposition: form-data; name=\"s\"\r\n\r\n{OF_17}\r\n--x--\r\n"
    );
    verify(("content-type", "multipart/form-data; boundary=x"), &multipart).unwrap();
    // A link in JSON is no form, even an empty one.
    verify(JSON, &json(r#","link":"https://example.com/?a&s=&t=""#)).unwrap();
    for (content_type, body, code) in [
        (FORM, format!("t=18&s={OF_17}"), "signature_mismatch"),
        (FORM, format!("s={OF_17}"), "missing_field"),
        (FORM, "t=17".to_owned(), "missing_field"),
        (JSON, json("").replace("17\"", "18\""), "signature_mismatch"),
        (JSON, format!("t=17&s={OF_17}"), "invalid_json"),
    ] {
        assert_eq!(verify(content_type, &body).unwrap_err().code(), code, "{body}");
    }
}

#[test]
fn a_field_that_is_there_twice_is_not_verified_by_one_and_read_by_the_other() {
    let signed = scheme(
        "algorithm='hmac-sha256'\ncontent='{form:t}'\nbody_bound=false\nsignature={sources=['form:s']}",
    );
    let active = keys(&signed, &["k"]);
    let verify = |body: &str| Sent::new(&[FORM], body).verify(&signed, &active, NOW);
    verify(&format!("t=17&s={OF_17}&other=1&other=2")).unwrap();
    for body in [format!("t=17&s={OF_17}&t=18"), format!("s={OF_17}&t=17&s={OF_17}")] {
        let fault = verify(&body).unwrap_err();
        assert!(fault.to_string().contains("it was sent 2 times"), "{body}: {fault}");
    }
}

#[test]
fn an_empty_place_is_none_where_another_holds_the_signature() {
    let signed = scheme(
        "algorithm='hmac-sha256'\ncontent='{json:/t}'\nbody_bound=false\n\
         signature={sources=['json:/parent','json:/s']}",
    );
    let active = keys(&signed, &["k"]);
    let verify = |body: &str| Sent::new(&[JSON], body).verify(&signed, &active, NOW);
    verify(&format!(r#"{{"t":"17","parent":"","s":"{OF_17}"}}"#)).unwrap();
    let fault = verify(r#"{"t":"17","parent":"","s":""}"#).unwrap_err();
    assert!(fault.to_string().contains("empty"), "{fault}");
}

#[test]
fn a_content_type_alone_hides_nothing() {
    let get = |content_type, body: &str, source: &str| {
        let sent = Sent::new(&[content_type], body);
        let request = InboundRequest::new("POST", "/in", &sent.headers, &sent.body);
        request
            .get(&source.parse().unwrap())
            .unwrap()
            .map(|value| String::from_utf8(value.into_owned()).unwrap())
    };
    assert_eq!(get(JSON, "a=1", "form:a").as_deref(), Some("1"));
    assert_eq!(get(FORM, r#"{"a":1}"#, "json:/a").as_deref(), Some("1"));
    assert_eq!(get(JSON, r#"{"b":"&a=1&"}"#, "form:a"), None);
    assert_eq!(get(FORM, "a=1", "json:/a"), None);
}

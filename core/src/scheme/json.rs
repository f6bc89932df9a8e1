//! Looks single values up in a JSON body without building the whole document in memory.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as _, Deserializer as _};
use serde_json::value::RawValue;

use super::source::JsonPointer;

/// Why a body is not JSON, with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not JSON: {0}")]
pub struct JsonFault(String);

/// The values at the pointers, in their order; the whole body is checked for form on the way.
/// Of a member that is there twice the last counts, as in JavaScript.
pub(super) fn find<'de>(
    body: &'de [u8],
    pointers: &[JsonPointer],
) -> Result<Vec<Option<&'de RawValue>>, JsonFault> {
    let text = std::str::from_utf8(body)
        .map_err(|fault| JsonFault(format!("byte {} is not UTF-8", fault.valid_up_to())))?;
    let mut found = vec![None; pointers.len()];
    let wanted: Vec<Wanted<'_>> = pointers
        .iter()
        .enumerate()
        .filter_map(|(slot, pointer)| {
            let (name, rest) = pointer.segments().split_first()?;
            Some(Wanted { slot, name, rest })
        })
        .collect();
    descend(text, &wanted, &mut found).map_err(|fault| JsonFault(fault.to_string()))?;
    Ok(found)
}

/// The text of a scalar: a string unescaped, a number or boolean as written. Null, objects and
/// arrays have none.
pub(super) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let written = raw.get();
    match written.as_bytes().first()? {
        b'"' if !written.contains('\\') => Some(Cow::Borrowed(written.trim_matches('"'))),
        // Half of a surrogate pair has no text.
        b'"' => serde_json::from_str::<String>(written).ok().map(Cow::Owned),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(written)),
    }
}

#[derive(Clone, Copy)]
struct Wanted<'p> {
    slot: usize,
    name: &'p str,
    rest: &'p [String],
}

/// One level: keeps the text of the members asked for and skips the others.
fn descend<'de>(
    text: &'de str,
    wanted: &[Wanted<'_>],
    found: &mut [Option<&'de RawValue>],
) -> Result<(), serde_json::Error> {
    let mut level = Level { wanted, hits: vec![None; wanted.len()] };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    if text.trim_ascii_start().starts_with(['{', '[']) {
        deserializer.deserialize_any(&mut level)?;
    } else {
        IgnoredAny::deserialize(&mut deserializer)?;
    }
    deserializer.end()?;
    let hits = level.hits;
    let mut below: Vec<(&'de RawValue, Vec<Wanted<'_>>)> = Vec::new();
    for (want, hit) in wanted.iter().zip(hits) {
        let Some(raw) = hit else { continue };
        match want.rest.split_first() {
            None => found[want.slot] = Some(raw),
            Some((name, rest)) if raw.get().starts_with(['{', '[']) => {
                let next = Wanted { slot: want.slot, name, rest };
                match below.iter_mut().find(|(seen, _)| std::ptr::eq(*seen, raw)) {
                    Some((_, wants)) => wants.push(next),
                    None => below.push((raw, vec![next])),
                }
            }
            Some(_) => {}
        }
    }
    // As deep as the longest pointer, which is limited.
    below.into_iter().try_for_each(|(raw, wants)| descend(raw.get(), &wants, found))
}

struct Level<'w, 'p, 'de> {
    wanted: &'w [Wanted<'p>],
    hits: Vec<Option<&'de RawValue>>,
}

impl<'de> Level<'_, '_, 'de> {
    fn wants(&self, name: &str) -> bool {
        self.wanted.iter().any(|want| want.name == name)
    }

    fn keep(&mut self, name: &str, raw: &'de RawValue) {
        for (want, hit) in self.wanted.iter().zip(&mut self.hits) {
            if want.name == name {
                *hit = Some(raw);
            }
        }
    }
}

impl<'de> Visitor<'de> for &mut Level<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Read as it is written: a name with half of a surrogate pair is JSON, and no `String`.
        while let Some(written) = map.next_key::<&'de RawValue>()? {
            match text_of(written) {
                Some(name) if self.wants(&name) => {
                    let raw = map.next_value::<&'de RawValue>()?;
                    self.keep(&name, raw);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let last = self.wanted.iter().filter_map(|want| index_of(want.name)).max();
        let mut at = 0;
        while last.is_some_and(|last| at <= last) {
            let Some(raw) = seq.next_element::<&'de RawValue>()? else { return Ok(()) };
            for (want, hit) in self.wanted.iter().zip(&mut self.hits) {
                if index_of(want.name) == Some(at) {
                    *hit = Some(raw);
                }
            }
            at += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// The element a pointer segment names in an array: digits without a leading zero.
fn index_of(name: &str) -> Option<usize> {
    let canonical = name == "0" || !name.starts_with(['0', '+']);
    name.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(body: &str, pointers: &[&str]) -> Result<Vec<Option<String>>, JsonFault> {
        let pointers: Vec<JsonPointer> = pointers.iter().map(|text| text.parse().unwrap()).collect();
        let found = find(body.as_bytes(), &pointers)?;
        Ok(found.into_iter().map(|raw| raw.and_then(text_of).map(Cow::into_owned)).collect())
    }

    #[test]
    fn values_are_found_at_any_depth() {
        let body = r#" {"id":"a\u0062","event":{"type":"x","n":1e3,"list":[1,{"k":true}]},"none":null} "#;
        let pointers = [
            "/id",
            "/event/type",
            "/event/n",
            "/event/list/1/k",
            "/event/list/0",
            "/none",
            "/event",
            "/id/x",
        ];
        let found = look(body, &pointers).unwrap();
        let expected = [Some("ab"), Some("x"), Some("1e3"), Some("true"), Some("1"), None, None, None];
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn the_last_of_two_members_counts() {
        let body = r#"{"a":{"b":1},"a":{"c":2},"\u0061":{"c":3}}"#;
        assert_eq!(look(body, &["/a/b", "/a/c"]).unwrap(), [None, Some("3".to_owned())]);
    }

    #[test]
    fn the_place_of_a_fault_is_named() {
        for (body, place) in [
            ("", "line 1 column 0"),
            ("{\"a\":1", "line 1 column 6"),
            ("{\"a\":1}\n x", "line 2 column 2"),
            ("{\"a\":[1,]}", "line 1 column 9"),
        ] {
            let fault = look(body, &["/b"]).unwrap_err().to_string();
            assert!(fault.contains(place), "{body}: {fault}");
        }
        let fault = find(b"{\"a\":\"\xff\"}", &[]).unwrap_err().to_string();
        assert!(fault.contains("byte 6"), "{fault}");
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let body = format!("{{\"a\":{}{},\"id\":7}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(look(&body, &["/id"]).unwrap(), [Some("7".to_owned())]);
    }

    #[test]
    fn scalars_at_the_top_hold_nothing() {
        for body in ["1", "-1", "1.5", "1e999", "true", " null", "\"x\"", "\"\\ud83d\""] {
            assert_eq!(look(body, &["/a"]).unwrap(), [None], "{body}");
        }
    }
    #[test]
    fn half_of_a_surrogate_pair_is_valid_wherever_it_stands() {
        let body =
            r#"{"\ud83d":1,"a":{"x\udc00":[{"\ud83d\ud83d":"\ud83d"}],"b":2},"\ud83d\ude00":3,"c":"\ud83d"}"#;
        let found = look(body, &["/a/b", "/\u{1f600}", "/\u{fffd}", "/c"]).unwrap();
        assert_eq!(found, [Some("2".to_owned()), Some("3".to_owned()), None, None]);
        for body in ["{\"\\ud83\":1}", "{\"a\nb\":1}", "{\"\\x\":1}", "{1:2}", "{\"a\"}"] {
            assert!(look(body, &["/b"]).is_err(), "{body:?}");
        }
    }

    #[test]
    fn texts_are_read_with_their_quotes_and_escapes() {
        let body = r#"{"a":"","b":"\"","c":"\"q\"","d":"\u00e9"}"#;
        let found = look(body, &["/a", "/b", "/c", "/d"]).unwrap();
        assert_eq!(found, ["", "\"", "\"q\"", "\u{e9}"].map(|text| Some(text.to_owned())));
    }
}

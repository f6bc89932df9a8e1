//! Looks single values up in a JSON body without building the whole document in memory.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
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
        b'"' => match serde_json::from_str::<BorrowedText<'_>>(written) {
            Ok(text) => Some(text.0),
            // A lone surrogate has no text.
            Err(_) => None,
        },
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(written)),
    }
}

#[derive(serde::Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

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
    deserializer.deserialize_any(&mut level)?;
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
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(MemberName)? {
            if self.wants(&name) {
                let raw = map.next_value::<&'de RawValue>()?;
                self.keep(&name, raw);
            } else {
                map.next_value::<IgnoredAny>()?;
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

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The element a pointer segment names in an array: digits without a leading zero.
fn index_of(name: &str) -> Option<usize> {
    let canonical = name == "0" || !name.starts_with(['0', '+']);
    name.parse().ok().filter(|_| canonical)
}

/// A member's name, borrowed from the text unless it holds escapes.
struct MemberName;

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for MemberName {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
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
        for body in ["1", "-1", "1.5", "true", "null", "\"x\""] {
            assert_eq!(look(body, &["/a"]).unwrap(), [None], "{body}");
        }
    }
}

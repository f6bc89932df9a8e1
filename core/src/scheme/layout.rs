//! One rule for every signature header: split into items, split each item at its first `kv_sep`,
//! keep the values under the signature keys, take the timestamp.

use super::describe::Layout;
use super::error::Malformed;
use super::limits;
use super::request::JOINT;

/// Stands for every key but the timestamp's.
const ANY_KEY: &str = "*";

/// A layout that was checked.
#[derive(Debug, Clone)]
pub(super) struct CompiledLayout {
    separator: Separator,
    kv_sep: Option<String>,
    timestamp: Option<TimestampItem>,
    write_sep: String,
    bare_ok: bool,
}

#[derive(Debug, Clone)]
enum Separator {
    Text(String),
    AnyOf(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TimestampItem {
    Key(String),
    Index(usize),
}

/// A signature as text, with the place of its key in the scheme's list of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate<'v> {
    /// `None`: an item without a key, which goes with any.
    pub(super) label: Option<usize>,
    pub(super) text: &'v str,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed<'v> {
    pub(super) timestamp: Option<&'v str>,
    pub(super) candidates: Vec<Candidate<'v>>,
}

impl CompiledLayout {
    pub(super) fn new(layout: &Layout) -> Result<Self, (&'static str, String)> {
        let separator = match (&layout.item_sep, &layout.item_sep_any) {
            (Some(text), None) if !text.is_empty() => Separator::Text(text.clone()),
            (None, Some(chars)) if !chars.is_empty() => Separator::AnyOf(chars.clone()),
            _ => return Err(("item_sep", "give one of `item_sep` and `item_sep_any`, not empty".into())),
        };
        let timestamp = match (&layout.timestamp_key, layout.timestamp_index) {
            (Some(_), Some(_)) => {
                return Err((
                    "timestamp_key",
                    "give only one of `timestamp_key` and `timestamp_index`".into(),
                ));
            }
            (Some(key), None) => Some(TimestampItem::Key(key.clone())),
            (None, Some(index)) => Some(TimestampItem::Index(usize::from(index))),
            (None, None) => None,
        };
        match &layout.kv_sep {
            Some(kv_sep) if kv_sep.is_empty() => return Err(("kv_sep", "may not be empty".into())),
            Some(_) if layout.signature_key.as_deref().is_none_or(str::is_empty) => {
                return Err(("signature_key", "is needed where `kv_sep` is given".into()));
            }
            None if layout.signature_key.is_some() || layout.timestamp_key.is_some() => {
                return Err(("kv_sep", "is needed where keys are given".into()));
            }
            _ => {}
        }
        let write_sep = layout.write_sep.clone().unwrap_or_else(|| match &separator {
            Separator::Text(text) => text.clone(),
            Separator::AnyOf(chars) => chars.chars().take(1).collect(),
        });
        Ok(Self { separator, kv_sep: layout.kv_sep.clone(), timestamp, write_sep, bare_ok: layout.bare_ok })
    }

    pub(super) fn holds_timestamp(&self) -> bool {
        self.timestamp.is_some()
    }

    /// What is looked for when no timestamp is there.
    pub(super) fn timestamp_name(&self) -> String {
        match &self.timestamp {
            Some(TimestampItem::Key(key)) => key.clone(),
            Some(TimestampItem::Index(index)) => format!("item {index}"),
            None => String::new(),
        }
    }

    /// Items under keys not in `labels` are skipped, never an error. What joins repeated headers separates
    /// items whatever else does.
    pub(super) fn parse<'v>(&self, value: &'v str, labels: &[String]) -> Result<Parsed<'v>, Malformed> {
        let mut parsed = Parsed::default();
        let values = value.split(JOINT);
        match &self.separator {
            Separator::Text(text) => {
                self.collect(values.flat_map(move |one| one.split(text.as_str())), labels, &mut parsed)
            }
            Separator::AnyOf(chars) => {
                let items = values.flat_map(move |one| one.split(move |c| chars.contains(c)));
                self.collect(items.filter(|item| !item.is_empty()), labels, &mut parsed)
            }
        }?;
        Ok(parsed)
    }

    fn collect<'v>(
        &self,
        items: impl Iterator<Item = &'v str>,
        labels: &[String],
        parsed: &mut Parsed<'v>,
    ) -> Result<(), Malformed> {
        for (index, item) in items.enumerate() {
            if index == limits::ITEMS_MAX {
                return Err(Malformed::TooManyItems { max: limits::ITEMS_MAX });
            }
            let item = item.trim_matches([' ', '\t']);
            if self.timestamp == Some(TimestampItem::Index(index)) {
                parsed.timestamp = Some(item);
                continue;
            }
            let Some((key, text)) = self.split(item) else { continue };
            let is_timestamp = matches!((&self.timestamp, key), (Some(TimestampItem::Key(wanted)), Some(key)) if wanted == key);
            let label = key
                .filter(|_| !is_timestamp)
                .and_then(|key| labels.iter().position(|label| label == key || label == ANY_KEY));
            if key.is_none() || label.is_some() {
                if parsed.candidates.len() == limits::SIGNATURES_MAX {
                    return Err(Malformed::TooManySignatures { max: limits::SIGNATURES_MAX });
                }
                parsed.candidates.push(Candidate { label, text });
            } else if parsed.timestamp.is_none() && is_timestamp {
                parsed.timestamp = Some(text);
            }
        }
        Ok(())
    }

    /// Key and value; no key for a bare signature; `None` for an item to skip.
    fn split<'v>(&self, item: &'v str) -> Option<(Option<&'v str>, &'v str)> {
        match &self.kv_sep {
            None => (!item.is_empty()).then_some((None, item)),
            Some(kv_sep) => match item.split_once(kv_sep.as_str()) {
                Some((key, text)) => Some((Some(key), text)),
                None => (self.bare_ok && !item.is_empty()).then_some((None, item)),
            },
        }
    }

    /// The header's value; each signature comes with its label.
    pub(super) fn write(&self, timestamp: Option<&str>, signatures: &[(&str, String)]) -> String {
        let item = |key: &str, value: &str| match &self.kv_sep {
            Some(kv_sep) => format!("{key}{kv_sep}{value}"),
            None => value.to_owned(),
        };
        let mut items: Vec<String> =
            signatures.iter().map(|(label, signature)| item(label, signature)).collect();
        match (&self.timestamp, timestamp) {
            (Some(TimestampItem::Key(key)), Some(text)) => items.insert(0, item(key, text)),
            (Some(TimestampItem::Index(index)), Some(text)) => {
                items.insert((*index).min(items.len()), text.to_owned());
            }
            _ => {}
        }
        items.join(&self.write_sep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(toml: &str) -> CompiledLayout {
        CompiledLayout::new(&toml::from_str(toml).unwrap()).unwrap()
    }

    fn texts<'v>(parsed: &Parsed<'v>) -> Vec<&'v str> {
        parsed.candidates.iter().map(|candidate| candidate.text).collect()
    }

    #[test]
    fn the_known_shapes() {
        let v1 = ["v1".to_owned()];
        let stripe = layout("item_sep=','\nkv_sep='='\nsignature_key='v1'\ntimestamp_key='t'");
        let parsed = stripe.parse(" t=1, v1=a ,v0=b,v1=c=,junk,t=2 ", &v1).unwrap();
        assert_eq!((parsed.timestamp, texts(&parsed)), (Some("1"), vec!["a", "c="]));
        assert_eq!(stripe.write(Some("1"), &[("v1", "a".into()), ("v1", "b".into())]), "t=1,v1=a,v1=b");

        let standard = layout("item_sep=' '\nkv_sep=','\nsignature_key='v1'");
        let parsed = standard.parse("v1,a v2,b  v1,c", &v1).unwrap();
        assert_eq!(texts(&parsed), ["a", "c"]);
        let parsed = standard.parse("v1,a v1,b, v1,c, v2,d", &v1).unwrap();
        assert_eq!(texts(&parsed), ["a", "b", "c"]);

        let paddle = layout("item_sep=';'\nkv_sep='='\nsignature_key='v1'\ntimestamp_key='ts'");
        let parsed = paddle.parse("ts=1;v1=a, ts=2;v1=b", &v1).unwrap();
        assert_eq!((parsed.timestamp, texts(&parsed)), (Some("1"), vec!["a", "b"]));

        let recurly = layout("item_sep=','\ntimestamp_index=0");
        let parsed = recurly.parse("17,a,b", &[]).unwrap();
        assert_eq!((parsed.timestamp, texts(&parsed)), (Some("17"), vec!["a", "b"]));
        assert_eq!(recurly.write(Some("17"), &[("", "a".into())]), "17,a");

        let sanity =
            layout("item_sep_any=', '\nkv_sep='='\nsignature_key='v1'\ntimestamp_key='t'\nwrite_sep=','");
        let parsed = sanity.parse("t=1, ,v1=a", &v1).unwrap();
        assert_eq!((parsed.timestamp, texts(&parsed)), (Some("1"), vec!["a"]));

        let bare = layout("item_sep=' '\nkv_sep=','\nsignature_key='v1'\nbare_ok=true");
        assert_eq!(texts(&bare.parse("x v1,y z,w", &v1).unwrap()), ["x", "y"]);
    }

    #[test]
    fn items_are_limited() {
        let standard = layout("item_sep=' '\nkv_sep=','\nsignature_key='v1'");
        let many = |item: &str, times| vec![item; times].join(" ");
        let v1 = ["v1".to_owned()];
        assert!(standard.parse(&many("v1,a", 16), &v1).is_ok());
        assert_eq!(standard.parse(&many("v1,a", 17), &v1), Err(Malformed::TooManySignatures { max: 16 }));
        assert_eq!(standard.parse(&many("v0,a", 65), &v1), Err(Malformed::TooManyItems { max: 64 }));
    }
}

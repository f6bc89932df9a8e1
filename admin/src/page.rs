//! Pages: a size with a limit, and a token that holds a position and belongs to one list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_core::id::TenantId;
use prost::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::fault::Fault;

const PAGE_SIZE_DEFAULT: i64 = 50;
const PAGE_SIZE_MAX: i64 = 1000;
const TOKEN_VERSION: u8 = 1;
/// A page ends early where the next resource would make it larger: a client takes 4 MiB by default.
pub(crate) const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;
const BINDING_BYTES: usize = 16;
const TOKEN_TEXT_MAX: usize = 256;

/// 0 is the default; more than the maximum is the maximum, as AIP-158 asks.
pub(crate) fn page_size(asked: i32) -> Result<i64, Fault> {
    match i64::from(asked) {
        0 => Ok(PAGE_SIZE_DEFAULT),
        size if size < 0 => Err(Fault::field("page_size", "must not be negative")),
        size => Ok(size.min(PAGE_SIZE_MAX)),
    }
}

/// What a token is bound to: method, tenant and filter.
pub(crate) struct Listing {
    binding: [u8; BINDING_BYTES],
}

impl Listing {
    pub(crate) fn new<F: Message>(method: &str, tenant: TenantId, filter: Option<&F>) -> Self {
        let mut hash = Sha256::new();
        hash.update(method.as_bytes());
        hash.update([0]);
        hash.update(tenant.0.as_bytes());
        // No filter and an empty one mean the same.
        hash.update(filter.map(Message::encode_to_vec).unwrap_or_default());
        let mut binding = [0; BINDING_BYTES];
        binding.copy_from_slice(&hash.finalize()[..BINDING_BYTES]);
        Self { binding }
    }

    pub(crate) fn token<P: Position>(&self, position: &P) -> String {
        let mut bytes = vec![TOKEN_VERSION];
        bytes.extend_from_slice(&self.binding);
        position.write(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Takes off what was read beyond the page, and makes the token for what follows it.
    pub(crate) fn cut<T, P: Position>(&self, rows: &mut Vec<T>, size: i64, key: impl Fn(&T) -> P) -> String {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last().map(|last| self.token(&key(last))).unwrap_or_default()
    }

    /// `None` for the first page.
    pub(crate) fn position<P: Position>(&self, token: &str) -> Result<Option<P>, Fault> {
        if token.is_empty() {
            return Ok(None);
        }
        if token.len() > TOKEN_TEXT_MAX {
            return Err(Fault::PageToken);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Fault::PageToken)?;
        let position = bytes
            .strip_prefix(&[TOKEN_VERSION])
            .and_then(|rest| rest.strip_prefix(self.binding.as_slice()))
            .and_then(P::read)
            .ok_or(Fault::PageToken)?;
        Ok(Some(position))
    }
}

/// The key of the last row of a page, of fixed length.
pub(crate) trait Position: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl Position for Uuid {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok()
    }
}

impl Position for bowline_core::query::ListPosition {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.until.as_bytes());
        out.extend_from_slice(&self.done.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (until, done) = bytes.split_first_chunk::<16>()?;
        Some(Self { until: Uuid::from_bytes(*until), done: u32::from_be_bytes(done.try_into().ok()?) })
    }
}

impl Position for bowline_core::delivery::DeliveryKey {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.event_id.0.as_bytes());
        out.extend_from_slice(self.endpoint_id.0.as_bytes());
        out.extend_from_slice(&self.run.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (event, rest) = bytes.split_first_chunk::<16>()?;
        let (endpoint, run) = rest.split_first_chunk::<16>()?;
        Some(Self {
            event_id: bowline_core::id::EventId(Uuid::from_bytes(*event)),
            endpoint_id: bowline_core::id::EndpointId(Uuid::from_bytes(*endpoint)),
            run: i32::from_be_bytes(run.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::delivery::DeliveryKey;
    use bowline_core::id::{DEFAULT_TENANT, EndpointId, EventId};
    use bowline_proto::v1::EventFilter;

    fn filter(event_type: &str) -> EventFilter {
        EventFilter { event_type: event_type.into(), ..EventFilter::default() }
    }

    #[test]
    fn sizes() {
        let sizes: Vec<_> = [0, 1, 1000, 1001, i32::MAX].map(|asked| page_size(asked).unwrap()).into();
        assert_eq!(sizes, [50, 1, 1000, 1000, 1000]);
        assert!(page_size(-1).is_err());
    }

    #[test]
    fn a_token_leads_back_to_its_position() {
        let listing = Listing::new("ListEvents", DEFAULT_TENANT, Some(&filter("a.b")));
        let id = Uuid::now_v7();
        assert_eq!(listing.position::<Uuid>(&listing.token(&id)).unwrap(), Some(id));
        assert_eq!(listing.position::<Uuid>("").unwrap(), None);
        let key = DeliveryKey { event_id: EventId::new(), endpoint_id: EndpointId::new(), run: 7 };
        assert_eq!(listing.position::<DeliveryKey>(&listing.token(&key)).unwrap(), Some(key));
    }

    #[test]
    fn a_token_is_good_for_one_list_only() {
        let listing = Listing::new("ListEvents", DEFAULT_TENANT, Some(&filter("a.b")));
        let token = listing.token(&Uuid::now_v7());
        let others = [
            Listing::new("ListEvents", DEFAULT_TENANT, Some(&filter("a.c"))),
            Listing::new("ListEvents", DEFAULT_TENANT, None::<&EventFilter>),
            Listing::new("ListSources", DEFAULT_TENANT, Some(&filter("a.b"))),
            Listing::new("ListEvents", TenantId(Uuid::from_u128(2)), Some(&filter("a.b"))),
        ];
        for other in others {
            assert!(matches!(other.position::<Uuid>(&token), Err(Fault::PageToken)));
        }
        for bad in ["x", "!!", &token[1..], &"A".repeat(5000)] {
            assert!(matches!(listing.position::<Uuid>(bad), Err(Fault::PageToken)), "{bad}");
        }
        assert!(matches!(listing.position::<DeliveryKey>(&token), Err(Fault::PageToken)));
    }

    #[test]
    fn a_page_is_cut_only_where_more_follows() {
        let listing = Listing::new("ListEvents", DEFAULT_TENANT, None::<&EventFilter>);
        let ids: Vec<Uuid> = (0..3).map(Uuid::from_u128).collect();
        let mut rows = ids.clone();
        let token = listing.cut(&mut rows, 2, |id| *id);
        assert_eq!((rows.as_slice(), listing.position(&token).unwrap()), (&ids[..2], Some(ids[1])));
        let mut rows = ids.clone();
        assert_eq!(listing.cut(&mut rows, 3, |id| *id), "");
        assert_eq!(rows, ids);
    }

    #[test]
    fn no_filter_is_an_empty_filter() {
        let none = Listing::new("ListEvents", DEFAULT_TENANT, None::<&EventFilter>);
        let empty = Listing::new("ListEvents", DEFAULT_TENANT, Some(&EventFilter::default()));
        assert_eq!(none.token(&Uuid::nil()), empty.token(&Uuid::nil()));
    }
}

//! gRPC calls that must be refused, whoever makes them.

use bowline_proto::v1;
use bowline_tests::admin::KEY;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tonic::codegen::http::{HeaderValue, Request, header};

const METHODS: &[&str] = &[
    "EventService/PublishEvent",
    "EventService/GetEvent",
    "EventService/ListEvents",
    "SourceService/CreateSource",
    "SourceService/ListSources",
    "SourceService/RotateSourceSecret",
    "EndpointService/CreateEndpoint",
    "EndpointService/UpdateEndpoint",
    "DeliveryService/GetDelivery",
    "DeadLetterService/ListDeadLetters",
];
const PUBLISH: &str = "EventService/PublishEvent";

#[derive(Debug)]
pub struct Call {
    pub kind: &'static str,
    pub request: Request<http_body_util::Full<Bytes>>,
    /// Reading by chance is no harm; everything else is.
    pub must_fail: bool,
}

/// The next one, for the server at `authority`.
pub fn call(authority: &str, random: &mut StdRng) -> Call {
    let method = *METHODS.choose(random).unwrap_or(&PUBLISH);
    let good = message(&good_event());
    let (kind, method, key, body, must_fail) = match random.random_range(0..10_u32) {
        0..3 => ("grpc: wrong key", method, Some(wrong_key(random)), good, true),
        3 => ("grpc: no key", method, None, good, true),
        4 => ("grpc: broken message", PUBLISH, right_key(), broken(random), true),
        5 => {
            let mut bytes = vec![0; random.random_range(0..2_000)];
            random.fill(&mut bytes[..]);
            ("grpc: noise", method, right_key(), framed(&bytes), method == PUBLISH)
        }
        6 => ("grpc: no such method", "EventService/Unpublish", right_key(), good, true),
        _ => ("grpc: wild values", PUBLISH, right_key(), message(&wild(random)), true),
    };
    let mut request = Request::post(format!("http://{authority}/bowline.v1.{method}"))
        .header(header::TE, "trailers")
        .header(header::CONTENT_TYPE, "application/grpc");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, key);
    }
    // Bad metadata beside whatever else is wrong.
    if random.random_range(0..4_u32) == 0 {
        let timeout = *["99999999999H", "-1S", "1x", "", "\u{221e}"].choose(random).unwrap_or(&"");
        request = request
            .header(
                "grpc-timeout",
                HeaderValue::from_bytes(timeout.as_bytes()).unwrap_or(HeaderValue::from_static("?")),
            )
            .header("grpc-encoding", "zstd-of-a-kind")
            .header("x-endless", "e".repeat(random.random_range(0..6_000)))
            .header("broken-bin", "!!!not base64!!!");
    }
    let request = request.body(http_body_util::Full::new(body));
    Call { kind, request: request.unwrap_or_default(), must_fail }
}

fn right_key() -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("Bearer {KEY}")).ok()
}

fn wrong_key(random: &mut StdRng) -> HeaderValue {
    let text = match random.random_range(0..9_u32) {
        0 => format!("Bearer {}", &KEY[..KEY.len() - 1]),
        1 => format!("Bearer {KEY}x"),
        2 => format!("Bearer {}", KEY.to_uppercase()),
        3 => format!("Basic {KEY}"),
        4 => KEY.to_owned(),
        5 => "Bearer ".to_owned(),
        6 => format!("Bearer {}", "k".repeat(random.random_range(1..8_000))),
        7 => format!("Bearer Bearer {KEY}"),
        _ => return HeaderValue::from_bytes(b"Bearer \xff\xfe\x80").unwrap_or(HeaderValue::from_static("?")),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("?"))
}

fn good_event() -> v1::PublishEventRequest {
    v1::PublishEventRequest {
        event_type: "order.created".into(),
        body: br#"{"hostile":true}"#.as_slice().into(),
        ..Default::default()
    }
}

/// One field, or several, that no event may have.
fn wild(random: &mut StdRng) -> v1::PublishEventRequest {
    let mut event = good_event();
    let long = "x".repeat(random.random_range(300..5_000));
    match random.random_range(0..16_u32) {
        0 => event.event_type.clear(),
        1 => event.event_type = "order..created".into(),
        2 => event.event_type = ".".into(),
        3 => event.event_type = "bowline.own".into(),
        4 => event.event_type = long,
        5 => event.event_type = "order.cre\u{0}ated".into(),
        6 => event.event_type = "order.*; DROP TABLE events".into(),
        7 => event.event_type = "\u{202e}order".into(),
        8 => event.channel = long,
        9 => event.content_type = long,
        10 => event.content_type = "text/plain\r\nx-injected: yes".into(),
        11 => event.body = vec![b'x'; 1024 * 1024 + 1].into(),
        12 => event.body = b"{\"not\": json".as_slice().into(),
        13 => event.idempotency_key = long,
        14 => event.tenant_id = "ten_00000000000000000000000000' OR '1'='1".into(),
        _ => event.tenant_id = "evt_01h455vb4pex5vsknk084sn02q".into(),
    }
    event
}

fn message(event: &v1::PublishEventRequest) -> Bytes {
    framed(&event.encode_to_vec())
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

/// A message whose frame lies.
fn broken(random: &mut StdRng) -> Bytes {
    let good = message(&good_event());
    let mut bytes = BytesMut::from(&good[..]);
    match random.random_range(0..6_u32) {
        0 => bytes.truncate(random.random_range(1..good.len())),
        1 => bytes[1..5].copy_from_slice(&u32::MAX.to_be_bytes()),
        2 => bytes[1..5].copy_from_slice(&5_000_000_u32.to_be_bytes()),
        // Said to be compressed, by nobody knows what.
        3 => bytes[0] = 1,
        4 => bytes[0] = 0xee,
        _ => return framed(&vec![0x0a; 5 * 1024 * 1024]),
    }
    bytes.freeze()
}

//! What the sender of a refused request still sends: it is taken beside the answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

/// So much at the most, that the refusal is not lost with a connection that is reset under it.
pub(crate) const BYTES_MAX: usize = 4 * 1024 * 1024;
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the sender of a body nobody has touched waits to be asked for it. It will not send it once
/// it has been refused, and reading would ask.
pub(crate) fn awaits_continue(request: &Request<Incoming>) -> bool {
    expects_continue(request.headers()) && !request.body().is_end_stream()
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Takes it, for a while. HTTP/2 resets the one stream, and needs none of this.
pub(crate) fn drain(mut body: Incoming, version: Version) {
    if body.is_end_stream() || version >= Version::HTTP_2 {
        return;
    }
    tokio::spawn(async move {
        let rest = async {
            let mut taken = 0;
            while let Some(Ok(frame)) = body.frame().await {
                taken += frame.data_ref().map_or(0, Bytes::len);
                if taken > BYTES_MAX {
                    break;
                }
            }
        };
        // Whoever sends for longer is cut off.
        let _ = tokio::time::timeout(TIMEOUT, rest).await;
    });
}

//! HTTP/1.1 to the letter of RFC 9112: at the first thing that could be read in another way, it reads no
//! further.

/// A request that is all there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// The requests up to the first doubt.
pub(crate) fn requests(bytes: &[u8]) -> Vec<Request> {
    let mut reader = Reader(bytes);
    std::iter::from_fn(|| reader.request()).collect()
}

struct Reader<'a>(&'a [u8]);

/// What a head says of its body.
enum Framing {
    Length(u64),
    Chunked,
}

impl<'a> Reader<'a> {
    fn request(&mut self) -> Option<Request> {
        // Empty lines before a request are passed over, however they end (section 2.2).
        while let [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] = self.0 {
            self.0 = rest;
        }
        let line = std::str::from_utf8(self.line()?).ok()?;
        let (method, rest) = line.split_once(' ')?;
        let (target, version) = rest.split_once(' ')?;
        let is_plain =
            is_token(method) && !target.is_empty() && !target.contains(|c: char| c.is_ascii_control());
        if !is_plain || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return None;
        }
        let (method, target) = (method.to_owned(), target.to_owned());
        let body = match self.fields(version == "HTTP/1.1")? {
            Framing::Length(length) => self.take(length)?.to_vec(),
            Framing::Chunked => self.chunks()?,
        };
        Some(Request { method, target, body })
    }

    /// Up to a carriage return and a line feed; neither stands anywhere else.
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0))?;
        let line = &self.0[..end];
        self.0 = self.0[end..].strip_prefix(b"\r\n")?;
        Some(line)
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let length = usize::try_from(length).ok()?;
        let taken = self.0.get(..length)?;
        self.0 = &self.0[length..];
        Some(taken)
    }

    fn fields(&mut self, may_be_chunked: bool) -> Option<Framing> {
        let mut lengths: Vec<u64> = Vec::new();
        let mut codings = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok().filter(|name| is_token(name))?;
            let value = line[colon + 1..].trim_ascii();
            if name.eq_ignore_ascii_case("content-length") {
                let digits = std::str::from_utf8(value).ok()?;
                let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                lengths.push(digits.parse().ok().filter(|_| is_number)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                codings.push(value);
            }
        }
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Some(Framing::Length(0)),
            ([first, rest @ ..], []) if rest.iter().all(|length| length == first) => {
                Some(Framing::Length(*first))
            }
            ([], [coding]) if may_be_chunked && coding.eq_ignore_ascii_case(b"chunked") => {
                Some(Framing::Chunked)
            }
            _ => None,
        }
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let behind = line[digits..].trim_ascii_start();
            if digits == 0 || !(behind.is_empty() || behind.starts_with(b";")) {
                return None;
            }
            let size = u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(self.take(size)?);
            self.line().filter(|line| line.is_empty())?;
        }
        while !self.line()?.is_empty() {}
        Some(body)
    }
}

fn is_token(text: &str) -> bool {
    let is_of_it = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(text: &str) -> Vec<String> {
        requests(text.as_bytes()).iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect()
    }

    #[test]
    fn what_is_plain_is_read() {
        let plain = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        let chunked =
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nt: u\r\n\r\n";
        assert_eq!(bodies(&format!("\r\n\n{plain}{chunked}{plain}")), ["{}"; 3]);
        assert_eq!(bodies("GET / HTTP/1.0\r\n\r\n"), [""]);
    }

    #[test]
    fn nothing_is_read_from_a_doubt_on() {
        let plain = "POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        for doubtful in [
            "POST / HTTP/1.1\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
            "POST / HTTP/1.1\r\nX : a\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: y\n\r\n",
            "POST  / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(bodies(&format!("{plain}{doubtful}{plain}")), ["{}"], "{doubtful:?}");
        }
    }
}

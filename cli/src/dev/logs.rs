//! What `bowline dev` prints: its own lines and those of its services, each with the name of who says it.

use std::io::{self, Write};

use tokio::io::{AsyncRead, AsyncReadExt};

/// A longer line is printed in pieces: nobody's output may grow our memory.
const LINE_BYTES_MAX: usize = 16 * 1024;
const NAME_WIDTH: usize = 13;

/// A line of our own.
pub(super) fn say(line: &str) {
    print_line("dev", line.as_bytes());
}

/// Prints what a service writes, line by line, until it closes.
pub(super) async fn forward(name: String, mut from: impl AsyncRead + Unpin) {
    let mut pending: Vec<u8> = Vec::new();
    let mut piece = [0; 4_096];
    // A read error is the end of the output, as closing it is.
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        pending.extend_from_slice(&piece[..read]);
        let mut start = 0;
        while let Some(end) = line_end(&pending[start..]) {
            print_line(&name, &pending[start..start + end]);
            start += end;
            if pending.get(start) == Some(&b'\n') {
                start += 1;
            }
        }
        pending.drain(..start);
    }
    if !pending.is_empty() {
        print_line(&name, &pending);
    }
}

/// Where the first line ends: at its line end, or where it is too long.
fn line_end(bytes: &[u8]) -> Option<usize> {
    match bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(end) => Some(end),
        None if bytes.len() >= LINE_BYTES_MAX => Some(LINE_BYTES_MAX),
        None => None,
    }
}

fn print_line(name: &str, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let mut out = io::stdout().lock();
    // Whoever read our output is gone: the services run on all the same.
    let _ = writeln!(out, "{name:NAME_WIDTH$}| {}", line.trim_end());
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_its_end_or_where_it_is_too_long() {
        assert_eq!(line_end(b"ab\ncd"), Some(2));
        assert_eq!(line_end(b"\n"), Some(0));
        assert_eq!(line_end(b"ab"), None);
        assert_eq!(line_end(&vec![b'a'; LINE_BYTES_MAX + 5]), Some(LINE_BYTES_MAX));
    }
}

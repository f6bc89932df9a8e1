//! Free ports on loopback.
//!
//! They are taken from below the range the kernel hands to outgoing connections: a server that is
//! stopped and started again must find its port free, and a client that dials a stopped server
//! from that range may, once in a while, connect to itself.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use super::LocalError;

const LOWEST: u16 = 15_000;
const TRIES: u32 = 200;

/// A port nobody listens on just now. Another process may take it before it is used: whoever
/// starts a server on it tries again with another.
///
/// # Errors
/// When none of many tries is free.
pub fn free() -> Result<u16, LocalError> {
    let above = ephemeral_start();
    for _ in 0..TRIES {
        let port = rand::random_range(LOWEST..above);
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(LocalError::NoPort { tried: TRIES })
}

/// Whether nobody listens on this port just now.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The first port of the kernel's own range.
fn ephemeral_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|start| *start > LOWEST + 1_000)
        .unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_and_outside_the_range_of_outgoing_connections() {
        let port = free().unwrap();
        assert!((LOWEST..ephemeral_start()).contains(&port));
    }
}

//! The one place where a secret, or what was made with one, is compared.

use subtle::ConstantTimeEq;

/// Whether the bytes are the same, in a time that depends on nothing but their lengths.
#[must_use]
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn same_is_every_byte_and_the_length() {
        assert!(is_same(b"", b"") && is_same(b"hush", b"hush"));
        for other in [&b"husH"[..], b"Hush", b"hus", b"hushh", b""] {
            assert!(!is_same(b"hush", other) && !is_same(other, b"hush"));
        }
    }

    /// Every source file of what handles secrets, without its tests.
    fn sources() -> Vec<(PathBuf, String)> {
        fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    collect(&path, found);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                    found.push((path, code));
                }
            }
        }
        let mut found = Vec::new();
        for part in ["core", "admin", "ingest", "dispatcher"] {
            collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(part).join("src"), &mut found);
        }
        found
    }

    #[test]
    fn nothing_else_compares_in_a_way_of_its_own() {
        let sources = sources();
        assert!(sources.len() > 100, "{} files", sources.len());
        let own: Vec<_> = sources
            .iter()
            .filter(|(path, _)| !path.ends_with("secrets/same.rs"))
            .filter(|(_, code)| code.contains("subtle::") || code.contains("ct_eq("))
            .map(|(path, _)| path)
            .collect();
        assert!(own.is_empty(), "use secrets::is_same: {own:?}");
    }

    /// `==` ends at the first byte that differs.
    #[test]
    fn no_exposed_secret_and_no_signature_stands_beside_an_equals_sign() {
        let exposing = ["expose()", "expose_str()", "finish()", "to_write()", "signature.bytes()"];
        let mut seen = 0;
        for (path, code) in sources() {
            for line in code.lines().filter(|line| exposing.iter().any(|part| line.contains(part))) {
                seen += 1;
                assert!(!line.contains("==") && !line.contains("!="), "{}: {line}", path.display());
            }
        }
        assert!(seen > 20, "{seen} lines");
    }
}

//! Writes what a fuzzer begins with: `fuzz-seeds FOLDER` makes `FOLDER/TARGET/NUMBER` of every seed, and
//! `FOLDER/TARGET.dict` of the words.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use bowline_fuzz::{cel_inputs, http_edge, scheme_files, signature_headers};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("usage: fuzz-seeds FOLDER"))?;
    for (target, seeds, words) in [
        ("signature_headers", signature_headers::SEEDS, signature_headers::WORDS),
        ("scheme_files", scheme_files::SEEDS, scheme_files::WORDS),
        ("cel_inputs", cel_inputs::SEEDS, cel_inputs::WORDS),
        ("http_edge", http_edge::SEEDS, http_edge::WORDS),
    ] {
        write(&folder, target, seeds, words)?;
    }
    Ok(())
}

fn write(folder: &Path, target: &str, seeds: &[&[u8]], words: &[&str]) -> io::Result<()> {
    fs::create_dir_all(folder.join(target))?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(target).join(number.to_string()), seed)?;
    }
    let mut dictionary = String::new();
    for word in words {
        let bytes: Vec<String> = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        dictionary.push('"');
        dictionary.extend(bytes);
        dictionary.push_str("\"\n");
    }
    fs::write(folder.join(format!("{target}.dict")), dictionary)
}

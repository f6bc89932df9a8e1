//! Compiles the protos with protox, so that no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const FOLDER: &str = "bowline/v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let mut files: Vec<PathBuf> =
        fs::read_dir(FOLDER)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();

    let descriptors = protox::compile(&files, ["."])?;
    // What reflection serves: every file, the well-known types included.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("bowline_descriptor.bin"), descriptors.encode_to_vec())?;
    // Ordered maps encode the same content to the same bytes: fingerprints of requests rely on it.
    tonic_prost_build::configure().bytes(".bowline.v1").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}

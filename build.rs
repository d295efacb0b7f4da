//! Embeds hls.js into the binary if `npm ci` has put it beside the page; without it the page plays HLS only where
//! the browser does so itself, and says so.

use std::path::Path;
use std::{env, fs, io};

/// From the manifest's folder.
const PAGE: &str = "src/deliver/page";

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let library = format!("{PAGE}/node_modules/hls.js/dist/hls.min.js");
    println!("cargo::rerun-if-changed=build.rs");
    let value = if Path::new(&root).join(&library).exists() {
        println!("cargo::rerun-if-changed={library}");
        format!("Some(include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{library}\")))")
    } else {
        // A watched file that isn't there would mean a new build each time, so the folder is watched for it.
        println!("cargo::rerun-if-changed={PAGE}");
        "None".to_owned()
    };
    fs::write(Path::new(&out).join("hls_js.rs"), format!("const HLS_JS: Option<&[u8]> = {value};\n"))
}

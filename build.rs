//! Embeds the players that `npm ci` has put beside the page: hls.js and mpegts.js. Without hls.js the page plays HLS only
//! where the browser does so itself, without mpegts.js no HTTP-FLV, and it says so.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

/// From the manifest's folder.
const PAGE: &str = "src/deliver/page";

/// The constant that holds a library, and its file under `node_modules`.
const LIBRARIES: [(&str, &str); 2] =
    [("HLS_JS", "hls.js/dist/hls.min.js"), ("MPEGTS_JS", "mpegts.js/dist/mpegts.js")];

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    println!("cargo::rerun-if-changed=build.rs");
    let mut code = String::new();
    for (constant, file) in LIBRARIES {
        let library = format!("{PAGE}/node_modules/{file}");
        let value = if Path::new(&root).join(&library).exists() {
            println!("cargo::rerun-if-changed={library}");
            format!("Some(include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{library}\")))")
        } else {
            // A watched file that isn't there would mean a new build each time, so the folder is watched for it.
            println!("cargo::rerun-if-changed={PAGE}");
            "None".to_owned()
        };
        writeln!(code, "const {constant}: Option<&[u8]> = {value};").map_err(io::Error::other)?;
    }
    fs::write(Path::new(&out).join("libraries.rs"), code)
}

//! The fixtures are the files that `fixtures/README.md` says they are.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Every file of the table exists with the size and the SHA-256 given there, and no FLV lies beside the table.
#[test]
fn every_fixture_has_the_hash_in_the_readme() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut listed: Vec<String> = readme
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let [_, name, bytes, sha256, _] = cells[..] else { return None };
            let bytes: u64 = bytes.parse().ok()?;
            let file = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(file.len() as u64, bytes, "{name} has another size");
            assert_eq!(hex(&Sha256::digest(&file)), sha256, "{name} has another hash");
            Some(name.to_owned())
        })
        .collect();
    let mut present: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "flv"))
        .collect();
    listed.sort();
    present.sort();
    assert_eq!(listed, present);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

//! Imports point one way: a module of the crate uses only what stands before it in `LAYERS`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use grandstand::LAYERS;

/// May use everything: they put it together.
const TOP: [&str; 3] = ["app", "lib", "main"];

/// The publisher is a client of its own, at home here by convenience: it knows the vocabulary, not the house.
const PUBLISH_USES: [&str; 5] = ["name", "clock", "media", "metrics", "publish"];

/// Every use in `source`, the text of a file of `module`, that goes against the order.
fn violations(module: &str, source: &str) -> Vec<String> {
    if TOP.contains(&module) {
        return Vec::new();
    }
    let Some(place) = LAYERS.iter().position(|layer| *layer == module) else {
        return vec![format!("{module} is not in LAYERS")];
    };
    let allowed = |used: &str| match module {
        "publish" => PUBLISH_USES.contains(&used),
        _ => LAYERS.iter().take(place + 1).any(|layer| *layer == used),
    };
    let upward = used(source).into_iter().filter(|used| !allowed(used));
    upward.map(|used| format!("{module} uses {used}")).collect()
}

/// The modules named behind `crate::` in code: a path, or each head in a group of braces.
fn used(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for (at, matched) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let path = &code[at + matched.len()..];
        match path.strip_prefix('{') {
            Some(group) => used.extend(heads(group)),
            None => used.extend(word(path)),
        }
    }
    used
}

/// The first word of each path in a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.extend(word(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn word(path: &str) -> Option<String> {
    let word: String = path.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    // A type or constant at the crate's root, such as LAYERS, is no module.
    word.chars().next().is_some_and(|c| c.is_ascii_lowercase()).then_some(word)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn imports_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > LAYERS.len(), "the sources were found");
    let mut found = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let module = Path::new(inside.components().next().unwrap().as_os_str()).with_extension("");
        let source = fs::read_to_string(&file).unwrap();
        for violation in violations(module.to_str().unwrap(), &source) {
            found.push(format!("{}: {violation}", inside.display()));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_planted_violation_is_found() {
    for (module, source, expected) in [
        ("media", "use crate::live::Hub;", vec!["media uses live"]),
        (
            "media",
            "use crate::{name::StreamName, package::{Board, Life}, deliver};",
            vec!["media uses deliver", "media uses package"],
        ),
        ("live", "fn f() { crate::store::layout::key(); }", vec!["live uses store"]),
        ("live", "mod tests {\n    use crate::app::App;\n}", vec!["live uses app"]),
        ("ingest", "use crate::publish;", vec!["ingest uses publish"]),
        ("publish", "use crate::live::Hub;", vec!["publish uses live"]),
        ("novelty", "", vec!["novelty is not in LAYERS"]),
    ] {
        assert_eq!(violations(module, source), expected, "{source}");
    }
}

#[test]
fn what_points_down_or_is_no_code_is_let_through() {
    for (module, source) in [
        ("live", "use crate::{clock::Clock, media::Event};\nuse crate::live::queue;"),
        ("media", "//! See [`crate::live`].\nuse crate::name::StreamName; // not crate::package"),
        ("media", "use other_crate::live::Hub;\nuse super::live;"),
        ("publish", "use crate::media::flv;"),
        ("config", "use crate::{deliver, ingest::rtmp, live, package, store};"),
        ("app", "use crate::config::Config;"),
    ] {
        assert_eq!(violations(module, source), Vec::<String>::new(), "{source}");
    }
}

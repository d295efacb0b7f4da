//! The command as an operator meets it: exit codes, one clear line, a clean stop.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use common::{Origin, SOON, grandstand, run};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Exit code 2, and one line that holds every word.
fn refused(output: &Output, code: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("grandstand: ")).collect();
    assert_eq!(lines.len(), 1, "one line says why: {text}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is missing in: {}", lines[0]);
    }
    assert!(!text.contains("panicked") && !text.contains("backtrace"), "{text}");
}

fn check(folder: &Path, text: &str) -> Output {
    let file = folder.join("grandstand.toml");
    fs::write(&file, text).unwrap();
    run(grandstand().arg("check-config").arg(&file))
}

#[test]
fn help_names_the_commands_the_flags_and_the_ports() {
    let output = run(grandstand().arg("--help"));
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["serve", "check-config", "publish", "--config", "--store-url", "1935", "8000", "--version"] {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
    let version = run(grandstand().arg("--version"));
    assert_eq!(version.stdout, format!("grandstand {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [&["--no-such-flag"][..], &["no-such-command"], &["publish"], &["check-config"]] {
        assert_eq!(run(grandstand().args(args)).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_example_configuration_can_be_used() {
    let output = run(grandstand().args(["check-config", "config/grandstand.toml"]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(output.stdout, b"config/grandstand.toml: ok\n");
}

#[test]
fn a_bad_configuration_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("[hls]\n\nsegmnt = \"2s\"\n", &["grandstand.toml:3:", "segmnt"][..]),
        ("[rtpm]\nlisten = \"0.0.0.0:1935\"\n", &["grandstand.toml:2:", "rtpm"]),
        ("[rtmp]\nlisten = \"1935\"\n", &["grandstand.toml:2:", "[rtmp] listen"]),
        ("[hls]\nsegment = \"2 parsecs\"\n", &["grandstand.toml:2:", "[hls] segment", "parsecs"]),
        (
            "[hls]\nwindow = \"60s\"\nsegment = \"5s\"\n",
            &["grandstand.toml:3:", "segment", "target_duration"],
        ),
        ("[hls\n", &["grandstand.toml:1:"]),
    ] {
        refused(&check(folder.path(), text), 2, words);
    }
    refused(&run(grandstand().args(["--config", "/no/such/file.toml"])), 2, &["/no/such/file.toml"]);
}

#[test]
fn a_bad_variable_or_flag_is_refused_by_name() {
    let unknown = run(grandstand().env("GRANDSTAND_HTTP_LISTN", "0.0.0.0:8000"));
    refused(&unknown, 2, &["GRANDSTAND_HTTP_LISTN", "no such setting"]);
    let unreadable = run(grandstand().env("GRANDSTAND_LIVE_BROADCASTS_MAX", "many"));
    refused(&unreadable, 2, &["GRANDSTAND_LIVE_BROADCASTS_MAX", "broadcasts_max"]);
    refused(&run(grandstand().args(["--log-format", "xml"])), 2, &["--log-format", "xml"]);
}

#[test]
fn a_port_in_use_ends_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = grandstand();
    command.arg("--store-url").arg(folder.path()).args([
        "--http-listen",
        &address,
        "--rtmp-listen",
        "127.0.0.1:0",
    ]);
    refused(&run(&mut command), 1, &["[http] listen", &address, "in use"]);
}

/// A file where the folder should be: that stops root, too.
#[test]
fn a_folder_that_cannot_be_written_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = grandstand();
    command.arg("--store-url").arg(file.join("media"));
    command.args(["--http-listen", "127.0.0.1:0", "--rtmp-listen", "127.0.0.1:0"]);
    refused(&run(&mut command), 1, &["store", "media"]);
}

#[test]
fn sigterm_and_sigint_stop_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut origin = Origin::start();
        origin.signal(signal);
        let ended = origin.ended(SOON).expect("it ends");
        assert_eq!(ended.code(), Some(0), "{}", origin.log.text());
        origin.log.wait("stopped");
    }
}

#[test]
fn flags_go_over_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    let origin = Origin::builder().arg("serve").arg("--store-url").arg(&elsewhere).start();
    assert_eq!(origin.log.wait("listening")["store"], elsewhere.display().to_string());
}

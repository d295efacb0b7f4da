# Every target works from a fresh clone on a Debian-like machine: what is missing is installed first, and nothing is
# fetched again that is there.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run demo test lint bench advisories page browser cargo need-test

# A folder of npm packages is as new as its lock file says when this file is.
installed = $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(wildcard $(1)/package-lock.json))
PROGRAM = $${CARGO_TARGET_DIR:-target}/release/grandstand

# Encoders, players, a browser and Node.js, as Debian names them.
TEST_NEEDS := ffmpeg=ffmpeg ffprobe=ffmpeg chromium=chromium node=nodejs npm=npm \
	mpv=mpv cvlc=vlc-bin vlc-plugin-base rtmpdump=rtmpdump \
	gst-launch-1.0=gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
	gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

run: cargo ## run the origin: RTMP on 1935, HTTP on 8000, segments under ./media (ARGS=… for flags)
	$(page_if_possible)
	cargo run --release --locked -- $(ARGS)

demo: cargo ## run the origin with a sample broadcast looping into it
	$(page_if_possible)
	cargo build --release --locked
	deploy/demo "$(PROGRAM)"

test: cargo need-test page browser lint ## everything: lints, units, properties, real encoders, a real browser
	cargo test --locked --doc
	cargo test --locked --benches
	cargo test --locked --bins --tests

lint: cargo ## format, clippy, docs, licences and sources of dependencies
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --lib --no-deps --quiet
	.ci/cargo-deny --locked check licenses bans sources

bench: cargo ## measure the cores: bytes or events per second
	cargo bench --locked

advisories: cargo ## known holes in dependencies (asks the network for the database)
	.ci/cargo-deny --locked check advisories

page: $(call installed,src/deliver/page)
browser: $(call installed,tests/browser)

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	touch $@

# The page plays without its libraries where the browser knows HLS, so a machine without npm still gets an origin.
define page_if_possible
@.ci/need node=nodejs npm=npm && $(MAKE) --no-print-directory page || \
	echo "no hls.js, no mpegts.js: the page will play only where the browser itself knows HLS" >&2
endef

need-test:
	@.ci/need $(TEST_NEEDS)

cargo:
	@command -v cargo >/dev/null || { echo "please install Rust, version 1.95 or newer" >&2; exit 1; }
	@.ci/need cc=gcc ld=binutils

// Chromium for one file of tests, and what is asked of a page that plays. The environment says what to test:
//
// ORIGIN      base URL of the origin, http://127.0.0.1:8000
// BROADCAST   a live broadcast's name, live/mark
// SCREENSHOTS folder for pictures to look at; none are taken without it
// CHROMIUM    the browser, /usr/bin/chromium by default
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';

export const { ORIGIN, BROADCAST } = process.env;
const { SCREENSHOTS, CHROMIUM = '/usr/bin/chromium' } = process.env;
export const DEADLINE_MS = 60_000;

let profile;
/** A browser of its own for each file of tests. */
export let browser;

before(async () => {
  assert.ok(ORIGIN && BROADCAST, 'ORIGIN and BROADCAST say what to test');
  if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });
  profile = mkdtempSync(join(tmpdir(), 'grandstand-chromium-'));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    viewport: { width: 1280, height: 800 },
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required', '--mute-audio',
    ],
  });
});

after(async () => {
  await browser?.close();
  rmSync(profile, { recursive: true, force: true });
});

/** A page, and everything that went wrong in it. */
export async function open(url) {
  const page = await browser.newPage();
  const problems = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' || /Content Security Policy/.test(message.text())) problems.push(message.text());
  });
  await page.goto(url);
  return { page, problems };
}

export async function picture(page, name) {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

export const read = (page) => page.evaluate(() => {
  const video = document.querySelector('video');
  return {
    time: video.currentTime,
    width: video.videoWidth,
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
    error: video.error?.message ?? null,
  };
});

/** It plays: a picture of some size, and time and decoded frames that go on for three seconds. */
export async function assertPlays(page) {
  const plays = () => {
    const video = document.querySelector('video');
    return video?.videoWidth > 0 && video.currentTime > 0 && !video.paused && video.readyState >= 3;
  };
  await page.waitForFunction(plays, null, { timeout: DEADLINE_MS });
  const first = await read(page);
  await page.waitForFunction(
    (from) => document.querySelector('video').currentTime >= from + 3, first.time, { timeout: DEADLINE_MS },
  );
  const second = await read(page);
  assert.equal(second.error, null);
  assert.ok(second.width > 0);
  assert.ok(second.frames > first.frames + 20, `${first.frames} decoded frames, 3 s later ${second.frames}`);
}

/** A site of another origin that shows one page, and has scripts by their paths. */
export async function elsewhere(html, use, scripts = {}) {
  const server = createServer((request, response) => {
    const script = scripts[request.url];
    const type = script ? 'text/javascript' : 'text/html';
    response.writeHead(200, { 'Content-Type': `${type}; charset=utf-8` }).end(script ?? html);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  try {
    await use(`http://127.0.0.1:${server.address().port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

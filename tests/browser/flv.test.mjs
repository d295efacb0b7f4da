// HTTP-FLV and WebSocket-FLV in Chromium: by the libraries that people use, and on the page by its switch.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { BROADCAST, DEADLINE_MS, ORIGIN, assertPlays, browser, elsewhere, open, picture } from './chromium.mjs';

const FLV = `${ORIGIN}/${BROADCAST}.flv`;
const FLV_JS = readFileSync(new URL('node_modules/flv.js/dist/flv.min.js', import.meta.url));

/** A page of another origin that plays `url` as the tutorials do it. `flv.js` and `mpegts.js` share their interface. */
function tutorial(script, library, source) {
  return `<!doctype html><link rel="icon" href="data:,"><video muted playsinline></video>
    <script src="${script}"></script>
    <script>
      window.errors = [];
      const player = ${library}.createPlayer(${JSON.stringify(source)});
      player.on(${library}.Events.ERROR, (...error) => window.errors.push(error.slice(0, 2).join(' ')));
      player.attachMediaElement(document.querySelector('video'));
      player.load();
      player.play();
    </script>`;
}

async function assertTutorialPlays(html) {
  await elsewhere(html, async (url) => {
    const { page, problems } = await open(url);
    await assertPlays(page);
    assert.deepEqual(await page.evaluate(() => window.errors), []);
    assert.deepEqual(problems, []);
    await page.close();
  }, { '/flv.min.js': FLV_JS });
}

const MPEGTS_JS = `${ORIGIN}/assets/mpegts.min.js`;

test('flv.js 1.4.2 on a page of another origin plays as in the tutorial', async () => {
  assert.match(FLV_JS.toString(), /"1\.4\.2"/);
  await assertTutorialPlays(tutorial('/flv.min.js', 'flvjs', { type: 'flv', url: FLV }));
});

test('flv.js 1.4.2 plays over WebSocket', async () => {
  const url = FLV.replace('http:', 'ws:');
  await assertTutorialPlays(tutorial('/flv.min.js', 'flvjs', { type: 'flv', isLive: true, url }));
});

test('mpegts.js on a page of another origin plays over HTTP', async () => {
  await assertTutorialPlays(tutorial(MPEGTS_JS, 'mpegts', { type: 'flv', isLive: true, url: FLV }));
});

test('mpegts.js on a page of another origin plays over WebSocket', async () => {
  const url = FLV.replace('http:', 'ws:');
  await assertTutorialPlays(tutorial(MPEGTS_JS, 'mpegts', { type: 'flv', isLive: true, url }));
});

const engine = (page) => page.locator('body').getAttribute('data-engine');
const way = (page, which) => page.locator(`#ways [data-way=${which}]`);

/** The page shows a latency below `limit_s`, and how many frames were dropped. */
async function assertFigures(page, limit_s) {
  await page.waitForFunction((limit) => {
    const text = document.querySelector('[data-figure=latency]').textContent;
    return /^\d+\.\d s$/.test(text) && parseFloat(text) < limit;
  }, limit_s, { timeout: DEADLINE_MS });
  assert.match(await page.locator('[data-figure=dropped]').innerText(), /^\d+ of \d+$/);
}

test('the player page switches between HLS and HTTP-FLV, and keeps the choice in its address', async () => {
  const { page, problems } = await open(`${ORIGIN}/play/${BROADCAST}`);
  await assertPlays(page);
  assert.equal(await engine(page), 'hls');
  await assertFigures(page, 30);
  assert.equal(await page.locator('#url').innerText(), `${ORIGIN}/${BROADCAST}/index.m3u8`);

  await way(page, 'flv').click();
  await page.waitForFunction(() => document.body.dataset.engine === 'flv', null, { timeout: DEADLINE_MS });
  assert.equal(page.url(), `${ORIGIN}/play/${BROADCAST}?p=flv`);
  await assertPlays(page);
  await assertFigures(page, 2);
  assert.equal(await page.locator('#url').innerText(), FLV);
  assert.equal(await page.locator('[data-figure=engine]').innerText(), 'mpegts.js');

  await page.reload();
  await assertPlays(page);
  assert.equal(await engine(page), 'flv');
  await assertFigures(page, 2);
  await page.emulateMedia({ colorScheme: 'light' });
  await picture(page, 'player-flv-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, 'player-flv-dark');
  await page.setViewportSize({ width: 390, height: 844 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} px wider than a phone`);
  await picture(page, 'player-flv-phone');

  await way(page, 'hls').click();
  await page.waitForFunction(() => document.body.dataset.engine === 'hls', null, { timeout: DEADLINE_MS });
  assert.equal(page.url(), `${ORIGIN}/play/${BROADCAST}`);
  await assertPlays(page);
  assert.equal(await page.locator('body').getAttribute('data-fatal-errors'), '0');
  assert.deepEqual(problems, []);
  await page.close();
});

test('the player page gets over an outage of HTTP-FLV', async () => {
  const { page } = await open(`${ORIGIN}/play/${BROADCAST}?p=flv`);
  await assertPlays(page);
  // Nothing in a browser cuts a response off, but a new one can be refused.
  await page.route(`**/${BROADCAST}.flv`, (route) => route.abort('connectionreset'));
  await way(page, 'hls').click();
  await page.waitForFunction(() => document.body.dataset.engine === 'hls', null, { timeout: DEADLINE_MS });
  await way(page, 'flv').click();
  await page.waitForFunction(() => Number(document.body.dataset.fatalErrors) > 0, null, { timeout: DEADLINE_MS });
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await assertPlays(page);
  assert.equal(await engine(page), 'flv');
  await page.close();
});

/** The API's answer, with no FLV in it. */
async function withoutFlv(page) {
  await page.route('**/api/v1/streams', async (route) => {
    const response = await route.fetch();
    const { streams } = await response.json();
    await route.fulfill({ json: { streams: streams.map((stream) => ({ ...stream, flv: null })) } });
  });
}

test('an origin without FLV shows no switch, and plays HLS to who asks for FLV', async () => {
  const page = await browser.newPage();
  await withoutFlv(page);
  await page.goto(`${ORIGIN}/play/${BROADCAST}?p=flv`);
  await assertPlays(page);
  assert.equal(await engine(page), 'hls');
  assert.equal(await page.locator('#ways').isVisible(), false);
  assert.equal(page.url(), `${ORIGIN}/play/${BROADCAST}`);
  await page.goto(`${ORIGIN}/`);
  await page.locator('.card', { hasText: BROADCAST }).waitFor();
  assert.equal(await page.locator('.card-ways').first().isVisible(), false);
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await page.close();
});

test('a browser without Media Source Extensions shows no switch', async () => {
  const page = await browser.newPage();
  await page.addInitScript(() => {
    for (const api of ['MediaSource', 'ManagedMediaSource', 'WebKitMediaSource']) delete window[api];
  });
  await page.goto(`${ORIGIN}/play/${BROADCAST}?p=flv`);
  await assertPlays(page);
  assert.equal(await engine(page), 'native');
  assert.equal(await page.locator('#ways').isVisible(), false);
  await page.close();
});

// Chromium against a running origin: the page plays, another origin's page plays, the browser itself plays.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BROADCAST, DEADLINE_MS, ORIGIN, assertPlays, browser, elsewhere, open, picture } from './chromium.mjs';

const PLAYLIST = `${ORIGIN}/${BROADCAST}/index.m3u8`;

test('the index lists the broadcast and links to its player', async () => {
  const { page, problems } = await open(`${ORIGIN}/`);
  const card = page.locator('.card', { hasText: BROADCAST });
  await card.locator('.badge.live').waitFor({ timeout: DEADLINE_MS });
  assert.match(await card.innerText(), /\d+×\d+ · H\.264 .* · AAC/);
  assert.equal(await page.locator('#publish').isVisible(), false);
  await picture(page, 'index-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, 'index-dark');
  await page.setViewportSize({ width: 390, height: 844 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} px wider than a phone`);
  await picture(page, 'index-phone');
  // Anywhere but on the ways.
  await card.locator('.figures').click({ force: true });
  await page.waitForURL(`**/play/${BROADCAST}`);
  await page.goBack();
  await card.locator('[data-way=flv]').click();
  await page.waitForURL(`**/play/${BROADCAST}?p=flv`);
  assert.deepEqual(problems, []);
  await page.close();
});

test('an empty index says how to publish', async () => {
  const page = await browser.newPage();
  await page.route('**/api/v1/streams', (route) => route.fulfill({ json: { streams: [] } }));
  await page.goto(`${ORIGIN}/`);
  await page.locator('#publish').waitFor();
  assert.match(await page.locator('#ffmpeg-file').innerText(), /rtmp:\/\/127\.0\.0\.1\/live\/mark/);
  await picture(page, 'empty-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, 'empty-dark');
  await page.setViewportSize({ width: 390, height: 844 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} px wider than a phone`);
  await picture(page, 'empty-phone');
  await page.close();
});

test('what a publisher names is text, never markup', async () => {
  const page = await browser.newPage();
  const stream = {
    name: '<img src=x onerror=alert(1)>', app: 'live', stream: '"><script>alert(1)</script>', ready: true,
    uptime_s: 3725, width: 1920, height: 1080, video_codec: '<b>x</b>', audio_codec: null, fps: null,
    bitrate_bps: 0, viewers: 0,
  };
  await page.route('**/api/v1/streams', (route) => route.fulfill({ json: { streams: [stream] } }));
  await page.goto(`${ORIGIN}/`);
  await page.locator('.card').waitFor();
  assert.equal(await page.locator('.card-name').innerText(), stream.name);
  assert.equal(await page.locator('.card img, .card script, .card-facts b').count(), 0);
  await page.close();
});

test('the player page plays by hls.js', async () => {
  const { page, problems } = await open(`${ORIGIN}/play/${BROADCAST}`);
  await assertPlays(page);
  assert.equal(await page.locator('body').getAttribute('data-engine'), 'hls');
  assert.equal(await page.locator('body').getAttribute('data-fatal-errors'), '0');
  assert.equal(await page.locator('body').getAttribute('data-state'), 'playing');
  await page.waitForFunction(
    () => /^\d+\.\d s$/.test(document.querySelector('[data-figure=latency]').textContent), null,
    { timeout: DEADLINE_MS },
  );
  assert.match(await page.locator('[data-figure=resolution]').innerText(), /^\d+×\d+$/);
  await picture(page, 'player-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, 'player-dark');
  await page.setViewportSize({ width: 390, height: 844 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} px wider than a phone`);
  await picture(page, 'player-phone');
  assert.deepEqual(problems, []);
  await page.close();
});

test('the player page plays natively where hls.js is not', async () => {
  const { page } = await open(`${ORIGIN}/play/${BROADCAST}?engine=native`);
  await assertPlays(page);
  assert.equal(await page.locator('body').getAttribute('data-engine'), 'native');
  await page.close();
});

test('without hls.js the player page plays natively, or says what is missing', async () => {
  const page = await browser.newPage();
  await page.route('**/assets/hls.min.js', (route) => route.fulfill({ status: 404 }));
  await page.goto(`${ORIGIN}/play/${BROADCAST}`);
  await assertPlays(page);
  assert.equal(await page.locator('body').getAttribute('data-engine'), 'native');
  await page.addInitScript(() => { HTMLMediaElement.prototype.canPlayType = () => ''; });
  await page.reload();
  await page.getByText('built without hls.js').waitFor();
  await picture(page, 'player-unsupported');
  await page.close();
});

test('the player page waits for a broadcast that is not live, and plays it when it is', async () => {
  const page = await browser.newPage();
  let up = false;
  await page.route(`**/${BROADCAST}/index.m3u8`, (route) => (up ? route.continue() : route.fulfill({ status: 404 })));
  await page.goto(`${ORIGIN}/play/${BROADCAST}`);
  await page.getByText('is not live yet').waitFor();
  await picture(page, 'player-waiting');
  up = true;
  await assertPlays(page);
  await page.close();
});

test('the player page gets over an outage of the origin', async () => {
  const { page } = await open(`${ORIGIN}/play/${BROADCAST}`);
  await assertPlays(page);
  // Not setOffline: hls.js then waits for the browser's word, and nothing fails.
  await page.route(`**/${BROADCAST}/**`, (route) => route.abort('connectionreset'));
  await page.waitForFunction(() => Number(document.body.dataset.fatalErrors) > 0, null, { timeout: DEADLINE_MS });
  await picture(page, 'player-outage');
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await page.waitForFunction(() => document.body.dataset.state === 'playing', null, { timeout: DEADLINE_MS });
  await assertPlays(page);
  await page.close();
});

test('the player page says when the broadcast has ended, and plays the next one', async () => {
  const page = await browser.newPage();
  const listed = await (await fetch(`${ORIGIN}/api/v1/streams`)).json();
  const next = listed.streams.find((stream) => stream.name === BROADCAST);
  let ended = true;
  await page.route('**/api/v1/streams', (route) => {
    const streams = ended ? [{ ...next, started: '2001-01-01T00:00:00.000Z' }] : [next];
    return route.fulfill({ json: { streams } });
  });
  await page.route(`**/${BROADCAST}/*.m3u8`, async (route) => {
    const response = await route.fetch();
    const text = await response.text();
    const body = ended && text.includes('#EXTINF') ? `${text}#EXT-X-ENDLIST\n` : text;
    await route.fulfill({ response, body });
  });
  await page.goto(`${ORIGIN}/play/${BROADCAST}`);
  await assertPlays(page);
  await page.evaluate(() => { const video = document.querySelector('video'); video.currentTime = video.duration - 1; });
  await page.getByText('The broadcast has ended.').waitFor({ timeout: DEADLINE_MS });
  await picture(page, 'player-ended');
  ended = false;
  await page.waitForFunction(() => document.body.dataset.state === 'playing', null, { timeout: DEADLINE_MS });
  await assertPlays(page);
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await page.close();
});

test('a page of another origin plays by hls.js', async () => {
  const html = `<!doctype html><link rel="icon" href="data:,"><video muted autoplay playsinline></video>
    <script src="${ORIGIN}/assets/hls.min.js"></script>
    <script>
      window.fatal = [];
      const hls = new Hls();
      hls.on(Hls.Events.ERROR, (_event, error) => { if (error.fatal) window.fatal.push(error.details); });
      hls.loadSource(${JSON.stringify(PLAYLIST)});
      hls.attachMedia(document.querySelector('video'));
    </script>`;
  await elsewhere(html, async (url) => {
    const { page, problems } = await open(url);
    await assertPlays(page);
    assert.deepEqual(await page.evaluate(() => window.fatal), []);
    assert.deepEqual(problems, []);
    await page.close();
  });
});

test('a page of another origin reads ranges and errors', async () => {
  await elsewhere('<!doctype html><link rel="icon" href="data:,">', async (url) => {
    const { page } = await open(url);
    const seen = await page.evaluate(async ({ origin, playlist }) => {
      const missing = await fetch(`${origin}/live/no-such-broadcast/index.m3u8`);
      const media = new URL((await (await fetch(playlist)).text()).split('\n').find((line) => /^[^#]/.test(line)), playlist);
      const text = await (await fetch(media)).text();
      const segment = new URL(text.split('\n').findLast((line) => /^[^#]/.test(line)), media);
      // Not a safelisted header, so the browser asks by OPTIONS first.
      const headers = { Range: 'bytes=188-375', 'CMCD-Session': 'sid="1"' };
      const part = await fetch(segment, { headers });
      const bytes = new Uint8Array(await part.arrayBuffer());
      const range = part.headers.get('Content-Range');
      return { missing: missing.status, part: part.status, length: bytes.length, first: bytes[0], range };
    }, { origin: ORIGIN, playlist: PLAYLIST });
    assert.deepEqual({ ...seen, range: null }, { missing: 404, part: 206, length: 188, first: 0x47, range: null });
    assert.match(seen.range, /^bytes 188-375\/\d+$/);
    await page.close();
  });
});

test('Chromium plays the playlist by itself', async () => {
  const html = `<!doctype html><link rel="icon" href="data:,">
    <video muted autoplay playsinline src="${PLAYLIST}"></video>`;
  await elsewhere(html, async (url) => {
    const { page } = await open(url);
    await assertPlays(page);
    await page.close();
  });
});

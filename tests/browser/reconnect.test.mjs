// Viewers over a publisher's death and return, and over the end of its broadcast: by HLS, by HTTP-FLV, by flv.js.
//
// GRANDSTAND  the program, which also publishes
// FIXTURE     an FLV file to publish
// RTMP        base URL for publishers, rtmp://127.0.0.1:1935
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DEADLINE_MS, ORIGIN, assertPlays, elsewhere, open, read } from './chromium.mjs';

const { GRANDSTAND, FIXTURE, RTMP } = process.env;
const NAME = 'live/again';
const FLV_JS = readFileSync(new URL('node_modules/flv.js/dist/flv.min.js', import.meta.url));

function publish() {
  return spawn(GRANDSTAND, ['publish', '--loop', FIXTURE, `${RTMP}/${NAME}`], { stdio: 'ignore' });
}

async function end(publisher, signal) {
  const ended = once(publisher, 'exit');
  publisher.kill(signal);
  await ended;
}

async function broadcast() {
  const { streams } = await (await fetch(`${ORIGIN}/api/v1/streams`)).json();
  return streams.find((stream) => stream.name === NAME);
}

async function until(what, holds) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!await holds()) {
    assert.ok(Date.now() < deadline, what);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

/** A page that would lose this if it were loaded anew. */
const mark = (page) => page.evaluate(() => { window.neverReloaded = true; });
const neverReloaded = (page) => page.evaluate(() => window.neverReloaded === true);

test('viewers go on when a publisher is killed and comes back, and see the end of the broadcast', async () => {
  let publisher = publish();
  const html = `<!doctype html><link rel="icon" href="data:,"><video muted playsinline></video>
    <script src="/flv.min.js"></script>
    <script>
      window.errors = [];
      const player = flvjs.createPlayer({ type: 'flv', url: '${ORIGIN}/${NAME}.flv' });
      player.on(flvjs.Events.ERROR, (...error) => window.errors.push(error.slice(0, 2).join(' ')));
      player.attachMediaElement(document.querySelector('video'));
      player.load();
      player.play();
    </script>`;
  try {
    await until('the broadcast is ready', async () => (await broadcast())?.ready);
    await elsewhere(html, async (url) => {
      const pages = {
        hls: (await open(`${ORIGIN}/play/${NAME}`)).page,
        flv: (await open(`${ORIGIN}/play/${NAME}?p=flv`)).page,
        flvJs: (await open(url)).page,
      };
      for (const page of Object.values(pages)) {
        await assertPlays(page);
        await mark(page);
      }

      await end(publisher, 'SIGKILL');
      await until('the publisher is missed', async () => (await broadcast())?.live === false);
      // FLV has little in its buffer, so its viewers come to the end of it.
      await pages.flv.waitForFunction(() => document.body.dataset.state === 'buffering', null, { timeout: DEADLINE_MS });
      await pages.flv.getByText('It goes on here').waitFor({ timeout: DEADLINE_MS });
      const before = {};
      for (const [name, page] of Object.entries(pages)) before[name] = await read(page);
      publisher = publish();
      await until('the publisher is back', async () => (await broadcast())?.live === true);

      // By HLS what came before the break is played first: the wait is longer than all that can be in its buffer.
      const go_on_s = { flv: 3, flvJs: 3, hls: 24 };
      for (const [name, seconds] of Object.entries(go_on_s)) {
        const page = pages[name];
        await page.waitForFunction(
          (to) => document.querySelector('video').currentTime >= to, before[name].time + seconds,
          { timeout: DEADLINE_MS },
        );
        await assertPlays(page);
        assert.ok((await read(page)).frames > before[name].frames, name);
        assert.ok(await neverReloaded(page), name);
      }
      for (const page of [pages.hls, pages.flv]) {
        assert.equal(await page.locator('body').getAttribute('data-fatal-errors'), '0');
      }
      assert.deepEqual(await pages.flvJs.evaluate(() => window.errors), []);

      await end(publisher, 'SIGTERM');
      const over = () => document.querySelector('video').ended;
      for (const page of Object.values(pages)) await page.waitForFunction(over, null, { timeout: DEADLINE_MS });
      for (const page of [pages.hls, pages.flv]) await page.getByText('The broadcast has ended.').waitFor();
      assert.deepEqual(await pages.flvJs.evaluate(() => window.errors), []);

      // The next broadcast of the name is played by the page without anyone's doing.
      publisher = publish();
      await assertPlays(pages.flv);
      assert.equal(await pages.flv.locator('body').getAttribute('data-state'), 'playing');
      for (const page of Object.values(pages)) await page.close();
    }, { '/flv.min.js': FLV_JS });
  } finally {
    publisher.kill('SIGKILL');
  }
});

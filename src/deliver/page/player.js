// Plays one broadcast, by HLS or by HTTP-FLV (`?p=flv`). Waits for a broadcast that is not live yet, and comes back after
// what can be recovered from. `?engine=native` or `?engine=hls` chooses by hand what plays HLS.
import { flvJs, hasHlsJs, hlsJs, playFlv, playHls, playNative } from './engines.js';

const RETRY_MS = 2000;
const FIGURES_MS = 500;
const STREAMS_MS = 3000;

const ENGINES = { hls: playHls, native: playNative, flv: playFlv };
const ENGINE_NAMES = { hls: 'hls.js', native: 'the browser', flv: 'mpegts.js' };
const WAY_NAMES = { hls: 'HLS', flv: 'HTTP-FLV' };
const LATENCY_IS = {
  hls: 'Latency: since the origin took the picture, by the playlist’s dates and this computer’s clock.',
  flv: 'Latency: how far the picture is behind the newest frame that has arrived; the way here is not in it.',
};

const [app, stream] = location.pathname.split('/').slice(2);
const name = `${app}/${stream}`;
const asked = new URLSearchParams(location.search);

const byId = (id) => document.getElementById(id);
const video = byId('video');

/** The way the viewer wants it: 'hls' or 'flv'. */
let way = asked.get('p') === 'flv' && flvJs ? 'flv' : 'hls';
/** What plays, if anything does. */
let engine = null;
/** Counts the starts, so that one that still waits notices that another has begun. */
let starts = 0;
/** `started` of the broadcast that plays, to tell a new one of the same name from one that has ended. */
let playing = null;
/** The newest answer of the API for this broadcast; `undefined` before the first, `null` when it is not live. */
let live;

function say(state, text) {
  document.body.dataset.state = state;
  if (byId('message').textContent !== text) byId('message').textContent = text;
}

function figure(id, text) {
  document.querySelector(`[data-figure=${id}]`).textContent = text;
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** A key of ENGINES, or null where none plays HLS. */
function chooseForHls() {
  const native = video.canPlayType('application/vnd.apple.mpegurl') !== '';
  if (asked.get('engine') === 'native' && native) return 'native';
  if (asked.get('engine') === 'hls' && hlsJs) return 'hls';
  // Chromium also says that it plays HLS; what it knows of live playlists is less than hls.js does.
  const safari = 'WebKitPlaybackTargetAvailabilityEvent' in window;
  if (native && (safari || !hlsJs)) return 'native';
  return hlsJs ? 'hls' : null;
}

function whyNothingPlays() {
  return hasHlsJs
    ? 'This browser can play HLS neither by Media Source Extensions nor by itself.'
    : 'This origin was built without hls.js, and this browser does not play HLS by itself. ' +
      'Safari does; or open the address below in VLC or mpv.';
}

/** The path of what is played this way; of FLV only the API knows whether there is one. */
function address() {
  return way === 'flv' ? live?.flv ?? `/${name}.flv` : `/${name}/index.m3u8`;
}

async function play() {
  try {
    await video.play();
  } catch (error) {
    // Autoplay may be forbidden even when muted; the controls are there.
    if (error.name === 'NotAllowedError') say('paused', 'Press play to start.');
  }
}

function stop() {
  engine?.stop();
  engine = null;
}

/** Whether the broadcast is there to be played; says why if it is not. */
async function isThere() {
  try {
    if (way === 'flv') {
      await askForStream();
      if (live) return true;
    } else {
      const response = await fetch(address(), { cache: 'no-store' });
      if (response.ok) return true;
      if (response.status !== 404) {
        say('waiting', `The origin answered ${response.status}. Trying again…`);
        return false;
      }
    }
    say('waiting', `${name} is not live yet. It will play here as soon as it is.`);
  } catch {
    say('waiting', 'The origin does not answer. Trying again…');
  }
  return false;
}

/** Asks until the broadcast is there, then plays it; or readies it, for a viewer who holds it. */
async function start(held = false) {
  starts += 1;
  const own = starts;
  stop();
  while (!await isThere()) {
    await pause(RETRY_MS);
    if (own !== starts) return;
  }
  if (own !== starts) return;
  // An origin may have been told to serve no FLV.
  if (way === 'flv' && !live.flv) choose('hls');
  const kind = way === 'flv' ? 'flv' : chooseForHls();
  document.body.dataset.engine = kind ?? 'none';
  figure('engine', ENGINE_NAMES[kind] ?? '–');
  if (kind === null) {
    say('unsupported', whyNothingPlays());
    return;
  }
  say('loading', 'Loading…');
  playing = live?.started ?? null;
  engine = ENGINES[kind](video, address(), tell);
  if (held) say('paused', 'Press play to go on.');
  else await play();
}

/** Sets everything up anew, in a while. */
async function again(state, text) {
  say(state, text);
  const held = video.paused && !video.ended;
  stop();
  const own = starts;
  await pause(RETRY_MS);
  if (own === starts) start(held);
}

const tell = {
  trouble(details) {
    document.body.dataset.fatalErrors = Number(document.body.dataset.fatalErrors) + 1;
    console.warn(details);
  },
  recovering: (text) => say('recovering', text),
  recovered() {
    // A short outage ends before the buffer does: no 'playing' event follows.
    if (document.body.dataset.state === 'recovering' && !video.paused && video.readyState >= 3) say('playing', '');
  },
  again,
};

video.addEventListener('playing', () => say('playing', ''));
video.addEventListener('waiting', () => {
  if (document.body.dataset.state === 'playing') say('buffering', '');
});
video.addEventListener('ended', () => {
  say('ended', 'The broadcast has ended.');
  // The address may begin another one; until the API tells of it there is nothing to ask for.
  playing ??= live?.started ?? null;
});

function showSound() {
  byId('unmute').hidden = !video.muted || video.paused;
}
for (const event of ['volumechange', 'playing', 'pause']) video.addEventListener(event, showSound);
byId('unmute').addEventListener('click', () => { video.muted = false; });

function showFigures() {
  const isPlaying = !video.paused && document.body.dataset.state === 'playing';
  const latency_s = isPlaying ? engine?.latency_s() ?? null : null;
  figure('latency', latency_s === null ? '–' : `${Math.max(0, latency_s).toFixed(1)} s`);
  let ahead = null;
  for (let i = 0; i < video.buffered.length; i += 1) {
    if (video.buffered.start(i) <= video.currentTime && video.currentTime <= video.buffered.end(i)) {
      ahead = video.buffered.end(i) - video.currentTime;
    }
  }
  figure('buffer', ahead === null ? '–' : `${ahead.toFixed(1)} s`);
  figure('resolution', video.videoWidth > 0 ? `${video.videoWidth}×${video.videoHeight}` : '–');
  const quality = video.getVideoPlaybackQuality?.();
  figure('dropped', quality?.totalVideoFrames ? `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}` : '–');
}

/** The way, in all places that show it. The address bar keeps it, for a reload and for whoever is sent the link. */
function choose(wanted) {
  way = wanted;
  const url = new URL(location.href);
  if (way === 'flv') url.searchParams.set('p', 'flv');
  else url.searchParams.delete('p');
  history.replaceState(null, '', url);
  showWay();
}

function showWay() {
  for (const button of byId('ways').children) button.setAttribute('aria-pressed', String(button.dataset.way === way));
  byId('latency-is').textContent = LATENCY_IS[way];
  byId('url-of').textContent = WAY_NAMES[way];
  byId('url').textContent = new URL(address(), location.href).href;
}

for (const button of byId('ways').children) {
  button.addEventListener('click', () => {
    if (button.dataset.way === way) return;
    choose(button.dataset.way);
    start();
  });
}

/** Asks the API for this broadcast, and shows the answer. Throws when the origin does not answer. */
async function askForStream() {
  const response = await fetch('/api/v1/streams', { signal: AbortSignal.timeout(10 * RETRY_MS) });
  if (!response.ok) throw new Error(`it answered ${response.status}`);
  live = (await response.json()).streams.find((each) => each.name === name) ?? null;
  figure('viewers', live ? String(live.viewers) : '–');
  // What is not live tells nothing of FLV; the switch stays as it is.
  if (live) byId('ways').hidden = !live.flv || !flvJs;
  showWay();
  const interrupted = live?.live === false;
  const badge = byId('badge');
  badge.hidden = live === null;
  if (interrupted) badge.textContent = 'Interrupted';
  else badge.textContent = live?.ready ? 'Live' : 'Starting';
  badge.classList.toggle('live', !interrupted && (live?.ready ?? false));
}

async function followStream() {
  try {
    await askForStream();
    const { state } = document.body.dataset;
    // A body of FLV also ends where somebody between here and the origin says so.
    const another = way === 'flv' ? live?.live : live?.ready && live.started !== playing;
    if (state === 'buffering' && live?.live === false) {
      say('buffering', 'The encoder’s connection was lost. It goes on here as soon as it is back.');
    } else if (state === 'ended' && another) {
      start();
    } else if (state === 'playing' && live && playing === null) {
      playing = live.started;
    }
  } catch {
    // The player itself says when the origin is gone.
  }
  setTimeout(followStream, STREAMS_MS);
}

byId('name').textContent = name;
document.title = `${name} · grandstand`;
byId('copy').hidden = !navigator.clipboard;
byId('copy').addEventListener('click', async () => {
  await navigator.clipboard.writeText(byId('url').textContent);
  byId('copy').textContent = 'Copied';
  setTimeout(() => { byId('copy').textContent = 'Copy'; }, 1500);
});

document.body.dataset.fatalErrors = 0;
showWay();
followStream();
setInterval(showFigures, FIGURES_MS);
start();

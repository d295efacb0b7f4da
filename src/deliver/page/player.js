// Plays one broadcast: by hls.js where Media Source Extensions exist, by the browser itself in Safari. Waits for a
// broadcast that is not live yet, and comes back after what can be recovered from. `?engine=native` or `?engine=hls`
// chooses by hand.
'use strict';

const RETRY_MS = 2000;
const FIGURES_MS = 500;
const STREAMS_MS = 3000;
/** A second media error within this time is not mended by what mended the first. */
const MEDIA_RECOVERY_MS = 5000;
/** Fatal network errors in a row after which everything is set up anew. */
const NETWORK_TRIES = 3;

const [app, stream] = location.pathname.split('/').slice(2);
const name = `${app}/${stream}`;
const source = `/${name}/index.m3u8`;

const byId = (id) => document.getElementById(id);
const video = byId('video');

/** The running hls.js, if that is what plays. */
let hls = null;
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

/** 'hls', 'native', or null where neither plays. */
function chooseEngine() {
  const byHlsJs = window.Hls?.isSupported() ?? false;
  const native = video.canPlayType('application/vnd.apple.mpegurl') !== '';
  const asked = new URLSearchParams(location.search).get('engine');
  if (asked === 'native' && native) return 'native';
  if (asked === 'hls' && byHlsJs) return 'hls';
  // Chromium also says that it plays HLS; what it knows of live playlists is less than hls.js does.
  const safari = 'WebKitPlaybackTargetAvailabilityEvent' in window;
  if (native && (safari || !byHlsJs)) return 'native';
  return byHlsJs ? 'hls' : null;
}

function whyNothingPlays() {
  return window.Hls
    ? 'This browser can play HLS neither by Media Source Extensions nor by itself.'
    : 'This origin was built without hls.js, and this browser does not play HLS by itself. ' +
      'Safari does; or open the address below in VLC or mpv.';
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
  hls?.destroy();
  hls = null;
  video.removeAttribute('src');
  video.load();
}

/** Asks until the broadcast is there, then plays it. */
async function start() {
  stop();
  for (;;) {
    try {
      const response = await fetch(source, { cache: 'no-store' });
      if (response.ok) break;
      if (response.status === 404) say('waiting', `${name} is not live yet. It will play here as soon as it is.`);
      else say('waiting', `The origin answered ${response.status}. Trying again…`);
    } catch {
      say('waiting', 'The origin does not answer. Trying again…');
    }
    await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
  }
  say('loading', 'Loading…');
  playing = live?.started ?? null;
  if (engine === 'hls') startHlsJs();
  else video.src = source;
  await play();
}

function again(state, text) {
  say(state, text);
  stop();
  setTimeout(start, RETRY_MS);
}

function startHlsJs() {
  let mediaErrorAt = -Infinity;
  let mediaErrors = 0;
  let networkErrors = 0;
  const own = new Hls({ backBufferLength: 30 });
  hls = own;
  own.on(Hls.Events.FRAG_BUFFERED, () => {
    networkErrors = 0;
    // A short outage ends before the buffer does: no 'playing' event follows.
    if (document.body.dataset.state === 'recovering' && !video.paused && video.readyState >= 3) say('playing', '');
  });
  own.on(Hls.Events.ERROR, (_event, error) => {
    if (!error.fatal || hls !== own) return;
    document.body.dataset.fatalErrors = Number(document.body.dataset.fatalErrors ?? 0) + 1;
    console.warn('hls.js', error.type, error.details, error.response?.code ?? '');
    if (error.type === Hls.ErrorTypes.NETWORK_ERROR) {
      networkErrors += 1;
      if (error.response?.code === 404 || networkErrors > NETWORK_TRIES) {
        again('waiting', 'The broadcast is not there any more. Waiting for it…');
      } else {
        say('recovering', 'The connection to the origin was lost. Trying again…');
        setTimeout(() => { if (hls === own) own.startLoad(); }, RETRY_MS / 2);
      }
    } else if (error.type === Hls.ErrorTypes.MEDIA_ERROR) {
      const now = performance.now();
      mediaErrors = now - mediaErrorAt < MEDIA_RECOVERY_MS ? mediaErrors + 1 : 1;
      mediaErrorAt = now;
      if (mediaErrors > 2) {
        again('recovering', 'The browser could not decode the broadcast. Starting over…');
      } else {
        say('recovering', 'The browser stumbled over the picture. Recovering…');
        if (mediaErrors === 2) own.swapAudioCodec();
        own.recoverMediaError();
        play();
      }
    } else {
      again('recovering', `Playing failed (${error.details}). Starting over…`);
    }
  });
  own.loadSource(source);
  own.attachMedia(video);
}

video.addEventListener('playing', () => say('playing', ''));
video.addEventListener('waiting', () => {
  if (document.body.dataset.state === 'playing') say('buffering', '');
});
video.addEventListener('ended', () => {
  say('ended', 'The broadcast has ended.');
  // The address may begin another one; until the API tells of it there is nothing to ask for.
  playing ??= live?.started ?? null;
});
video.addEventListener('error', () => {
  if (engine === 'native' && video.hasAttribute('src')) {
    document.body.dataset.fatalErrors = Number(document.body.dataset.fatalErrors ?? 0) + 1;
    again('recovering', 'The browser could not play the broadcast. Trying again…');
  }
});

function showSound() {
  byId('unmute').hidden = !video.muted || video.paused;
}
for (const event of ['volumechange', 'playing', 'pause']) video.addEventListener(event, showSound);
byId('unmute').addEventListener('click', () => { video.muted = false; });

/** When what is on the screen was produced, by the playlist's program date-time; null where nobody tells. */
function shownAt() {
  if (hls?.playingDate) return hls.playingDate.getTime();
  const start = video.getStartDate?.().getTime();
  return Number.isFinite(start) ? start + video.currentTime * 1000 : null;
}

function showFigures() {
  const at = shownAt();
  const isPlaying = !video.paused && document.body.dataset.state === 'playing';
  figure('latency', at !== null && isPlaying ? `${((Date.now() - at) / 1000).toFixed(1)} s` : '–');
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

async function refreshStream() {
  try {
    const response = await fetch('/api/v1/streams');
    if (response.ok) {
      live = (await response.json()).streams.find((each) => each.name === name) ?? null;
      figure('viewers', live ? String(live.viewers) : '–');
      const badge = byId('badge');
      badge.hidden = live === null;
      badge.textContent = live?.ready ? 'Live' : 'Starting';
      badge.classList.toggle('live', live?.ready ?? false);
      if (document.body.dataset.state === 'ended' && live?.ready && live.started !== playing) start();
      else if (live && playing === null && document.body.dataset.state === 'playing') playing = live.started;
    }
  } catch {
    // The player itself says when the origin is gone.
  }
  setTimeout(refreshStream, STREAMS_MS);
}

byId('name').textContent = name;
document.title = `${name} · grandstand`;
byId('url').textContent = new URL(source, location.href).href;
byId('copy').hidden = !navigator.clipboard;
byId('copy').addEventListener('click', async () => {
  await navigator.clipboard.writeText(byId('url').textContent);
  byId('copy').textContent = 'Copied';
  setTimeout(() => { byId('copy').textContent = 'Copy'; }, 1500);
});

const engine = chooseEngine();
document.body.dataset.engine = engine ?? 'none';
document.body.dataset.fatalErrors = 0;
figure('engine', { hls: 'hls.js', native: 'the browser' }[engine] ?? '–');
refreshStream();
setInterval(showFigures, FIGURES_MS);
if (engine) start();
else say('unsupported', whyNothingPlays());

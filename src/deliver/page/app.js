// The list of what is live, asked for every two seconds. Whatever a publisher named goes in by textContent only.
'use strict';

const REFRESH_MS = 2000;

const byId = (id) => document.getElementById(id);
const cards = new Map();

function duration(seconds) {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (n) => String(n).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function bitrate(bps) {
  if (bps >= 1e6) return `${(bps / 1e6).toFixed(1)} Mbit/s`;
  return bps > 0 ? `${Math.round(bps / 1e3)} kbit/s` : '–';
}

/** RFC 6381 to what people call it: avc1.64001f is H.264 High 3.1. */
function codec(name) {
  const avc = /^avc1\.(..)..(..)$/i.exec(name ?? '');
  if (avc) {
    const profiles = { '42': 'Baseline', '4d': 'Main', '58': 'Extended', '64': 'High', '6e': 'High 10', '7a': 'High 4:2:2' };
    const profile = profiles[avc[1].toLowerCase()] ?? '';
    return `H.264 ${profile} ${(parseInt(avc[2], 16) / 10).toFixed(1)}`.replace('  ', ' ');
  }
  const audio = { 'mp4a.40.2': 'AAC', 'mp4a.40.5': 'HE-AAC', 'mp4a.40.29': 'HE-AAC v2', 'mp4a.40.34': 'MP3' };
  return audio[name] ?? name;
}

function facts(stream) {
  const size = stream.width ? `${stream.width}×${stream.height}` : null;
  const known = [size, codec(stream.video_codec), codec(stream.audio_codec)].filter(Boolean);
  return known.length > 0 ? known.join(' · ') : 'no picture or sound yet';
}

function newCard(stream) {
  const item = byId('card').content.firstElementChild.cloneNode(true);
  const player = `/play/${stream.app}/${stream.stream}`;
  for (const link of item.querySelectorAll('.card-name, [data-way=hls]')) link.href = player;
  item.querySelector('[data-way=flv]').href = `${player}?p=flv`;
  item.querySelector('.card-name').textContent = stream.name;
  return item;
}

function fill(item, stream) {
  const badge = item.querySelector('.badge');
  const interrupted = stream.live === false;
  if (interrupted) badge.textContent = 'Interrupted';
  else badge.textContent = stream.ready ? 'Live' : 'Starting';
  badge.classList.toggle('live', stream.ready && !interrupted);
  // With one way there is nothing to choose.
  item.querySelector('.card-ways').hidden = !stream.flv;
  item.querySelector('.card-facts').textContent = facts(stream);
  const figures = {
    bitrate: bitrate(stream.bitrate_bps),
    fps: stream.fps ? String(Math.round(stream.fps * 100) / 100) : '–',
    uptime: duration(stream.uptime_s),
    viewers: String(stream.viewers),
  };
  for (const [name, text] of Object.entries(figures)) {
    item.querySelector(`[data-figure=${name}]`).textContent = text;
  }
}

/** Changes what is there rather than making it anew, so that focus, hover and screen readers stay where they are. */
function show(streams) {
  const list = byId('broadcasts');
  const names = new Set(streams.map((stream) => stream.name));
  for (const [name, item] of cards) {
    if (!names.has(name)) {
      item.remove();
      cards.delete(name);
    }
  }
  streams.forEach((stream, at) => {
    const item = cards.get(stream.name) ?? newCard(stream);
    cards.set(stream.name, item);
    fill(item, stream);
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
  byId('publish').hidden = streams.length > 0;
  const count = streams.length === 1 ? '1 broadcast live' : `${streams.length} broadcasts live`;
  const summary = streams.length > 0 ? count : '';
  if (byId('summary').textContent !== summary) byId('summary').textContent = summary;
}

async function refresh() {
  const trouble = byId('trouble');
  try {
    const response = await fetch('/api/v1/streams', { signal: AbortSignal.timeout(10 * REFRESH_MS) });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    show((await response.json()).streams);
    trouble.hidden = true;
  } catch {
    trouble.textContent = 'The origin does not answer. Trying again…';
    trouble.hidden = false;
  }
  setTimeout(refresh, REFRESH_MS);
}

/** A command, broken over lines only between its parts. */
function command(id, parts) {
  byId(id).replaceChildren(...parts.flatMap((part) => {
    const span = document.createElement('span');
    span.textContent = part;
    return [span, ' '];
  }).slice(0, -1));
}

function explainPublishing() {
  const server = `rtmp://${location.hostname}/live`;
  const coding = ['-c:v libx264', '-preset veryfast', '-pix_fmt yuv420p', '-g 60', '-c:a aac', '-f flv', `${server}/mark`];
  byId('obs-server').textContent = server;
  command('ffmpeg-file', ['ffmpeg', '-re', '-i video.mp4', ...coding]);
  command('ffmpeg-test', [
    'ffmpeg', '-re', '-f lavfi', '-i testsrc2=size=1280x720:rate=30', '-f lavfi', '-i sine=frequency=440',
    ...coding,
  ]);
  for (const button of document.querySelectorAll('[data-copy]')) {
    // The clipboard belongs to secure contexts; elsewhere the text can still be selected by hand.
    button.hidden = !navigator.clipboard;
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    });
  }
}

explainPublishing();
refresh();

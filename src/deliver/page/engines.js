// What plays: hls.js, mpegts.js, or the browser itself. Each `play…` starts on a video element and answers with
// `stop()` and `latency_s()`. What goes wrong on the way it tells:
//
//   tell.trouble(details)       something fatal to the library; what follows says what is done about it
//   tell.recovering(text)       it is mended while what is in the buffer plays on
//   tell.recovered()            it is mended
//   tell.again(state, text)     everything is to be set up anew
const RETRY_MS = 1000;
/** A second media error within this time is not mended by what mended the first. */
const MEDIA_RECOVERY_MS = 5000;
/** Fatal network errors in a row after which everything is set up anew. */
const NETWORK_TRIES = 3;

const { Hls, mpegts } = window;

export const hlsJs = Hls?.isSupported() ?? false;
/** FLV needs Media Source Extensions, and a body that can be read as it comes. */
export const flvJs = mpegts?.getFeatureList().mseLivePlayback ?? false;
/** Whether this origin was built with hls.js. */
export const hasHlsJs = Hls !== undefined;

/** Latency: since the origin took the picture, by the playlist's program date-time and this computer's clock. */
export function playHls(video, url, tell) {
  let mediaErrorAt = -Infinity;
  let mediaErrors = 0;
  let networkErrors = 0;
  let stopped = false;
  const hls = new Hls({ backBufferLength: 30 });
  hls.on(Hls.Events.FRAG_BUFFERED, () => {
    networkErrors = 0;
    tell.recovered();
  });
  hls.on(Hls.Events.ERROR, (_event, error) => {
    if (!error.fatal || stopped) return;
    tell.trouble(`hls.js ${error.type} ${error.details} ${error.response?.code ?? ''}`);
    if (error.type === Hls.ErrorTypes.NETWORK_ERROR) {
      networkErrors += 1;
      if (error.response?.code === 404 || networkErrors > NETWORK_TRIES) {
        tell.again('waiting', 'The broadcast is not there any more. Waiting for it…');
      } else {
        tell.recovering('The connection to the origin was lost. Trying again…');
        setTimeout(() => { if (!stopped) hls.startLoad(); }, RETRY_MS);
      }
    } else if (error.type === Hls.ErrorTypes.MEDIA_ERROR) {
      const now = performance.now();
      mediaErrors = now - mediaErrorAt < MEDIA_RECOVERY_MS ? mediaErrors + 1 : 1;
      mediaErrorAt = now;
      if (mediaErrors > 2) {
        tell.again('recovering', 'The browser could not decode the broadcast. Starting over…');
      } else {
        tell.recovering('The browser stumbled over the picture. Recovering…');
        if (mediaErrors === 2) hls.swapAudioCodec();
        hls.recoverMediaError();
        // Where it may not, the controls are there.
        video.play().catch(() => {});
      }
    } else {
      tell.again('recovering', `Playing failed (${error.details}). Starting over…`);
    }
  });
  hls.loadSource(url);
  hls.attachMedia(video);
  return {
    stop() {
      stopped = true;
      hls.destroy();
    },
    latency_s: () => (hls.playingDate ? (Date.now() - hls.playingDate.getTime()) / 1000 : null),
  };
}

/** Latency: as by hls.js, where the browser tells the playlist's dates. */
export function playNative(video, url, tell) {
  const failed = () => {
    tell.trouble(`the browser: ${video.error?.message ?? 'unknown'}`);
    tell.again('recovering', 'The browser could not play the broadcast. Trying again…');
  };
  video.addEventListener('error', failed);
  video.src = url;
  return {
    stop() {
      video.removeEventListener('error', failed);
      video.removeAttribute('src');
      video.load();
    },
    latency_s() {
      const start = video.getStartDate?.().getTime();
      return Number.isFinite(start) ? (Date.now() - start) / 1000 - video.currentTime : null;
    },
  };
}

/**
 * A body that has the cached GOP first starts a GOP behind: up to 2.5 s are made up for by playing faster, which nobody
 * notices, more by a jump. Below 0.8 s an ordinary hiccup of the network would be seen.
 */
const LOW_LATENCY = {
  enableWorker: true,
  enableStashBuffer: false,
  liveBufferLatencyChasing: true,
  liveBufferLatencyMaxLatency: 2.5,
  liveBufferLatencyMinRemain: 0.8,
  liveSync: true,
  liveSyncMaxLatency: 1.2,
  liveSyncTargetLatency: 0.8,
  liveSyncPlaybackRate: 1.15,
  autoCleanupSourceBuffer: true,
  autoCleanupMaxBackwardDuration: 30,
  autoCleanupMinBackwardDuration: 15,
};

/** Latency: behind the newest frame that has arrived; HTTP-FLV carries no dates, so the way here is not in it. */
export function playFlv(video, url, tell) {
  mpegts.LoggingControl.enableAll = false;
  // Its worker's own address is a blob's, so the URL has to be whole.
  const source = { type: 'flv', isLive: true, url: new URL(url, location.href).href };
  const player = mpegts.createPlayer(source, LOW_LATENCY);
  let stopped = false;
  player.on(mpegts.Events.ERROR, (type, details, info) => {
    if (stopped) return;
    tell.trouble(`mpegts.js ${type} ${details} ${info?.code ?? ''} ${info?.msg ?? ''}`);
    if (type === mpegts.ErrorTypes.MEDIA_ERROR) {
      tell.again('recovering', 'The browser stumbled over the broadcast. Starting over…');
    } else if (info?.code === 404) {
      tell.again('waiting', 'The broadcast is not there any more. Waiting for it…');
    } else {
      tell.again('recovering', 'The connection to the origin was lost. Trying again…');
    }
  });
  player.on(mpegts.Events.LOADING_COMPLETE, () => {
    // With something to play the video element's `ended` follows.
    if (!stopped && video.buffered.length === 0) tell.again('waiting', 'The broadcast has ended. Waiting for the next…');
  });
  player.attachMediaElement(video);
  player.load();

  // Frames that the origin left out for a viewer that was behind leave a hole, at which the browser would stop.
  const overHole = setInterval(() => {
    const { buffered, currentTime } = video;
    if (video.readyState >= 3 || video.paused) return;
    for (let i = 0; i < buffered.length; i += 1) {
      if (buffered.start(i) > currentTime) {
        video.currentTime = buffered.start(i) + 0.01;
        return;
      }
    }
  }, 250);

  return {
    stop() {
      stopped = true;
      clearInterval(overHole);
      player.destroy();
      video.playbackRate = 1;
    },
    latency_s: () => (video.buffered.length > 0 ? video.buffered.end(video.buffered.length - 1) - video.currentTime : null),
  };
}

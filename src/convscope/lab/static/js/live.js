// Follows a run while it goes on: server-sent events, connected again after any break. A stream begins with everything that there is.

const SOONEST = 500,
  LATEST = 8_000; // milliseconds between attempts to connect again

/**
 * Follow a run's events until it has ended.
 * @param {string} run its name
 * @param {Object<string, function(any)>} handlers by event name; each gets the event's JSON
 * @param {function("live"|"waiting"|"ended")} onStatus told when the connection comes and goes, and when there is nothing more to come
 * @returns {{close: function()}}
 */
export const follow = (run, handlers, onStatus = () => {}) => {
  let source = null,
    timer = 0,
    pause = SOONEST,
    ended = false;

  const connect = () => {
    clearTimeout(timer);
    if (ended || source || document.hidden) return; // a browser allows six connections to a server: hidden pages leave theirs to others
    source = new EventSource(`/api/runs/${encodeURIComponent(run)}/live`);
    source.addEventListener("open", () => {
      pause = SOONEST;
      onStatus("live");
    });
    for (const [name, handle] of Object.entries(handlers)) source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    source.addEventListener("end", () => {
      close();
      onStatus("ended");
    });
    source.addEventListener("error", () => {
      // the browser's own attempts give up at the first refusal: ours do not
      disconnect();
      if (ended) return;
      onStatus("waiting");
      timer = setTimeout(connect, pause);
      pause = Math.min(2 * pause, LATEST);
    });
  };
  const disconnect = () => {
    source?.close();
    source = null;
  };
  const onVisible = () => (document.hidden ? disconnect() : connect());
  const close = () => {
    ended = true;
    clearTimeout(timer);
    disconnect();
    document.removeEventListener("visibilitychange", onVisible);
  };
  document.addEventListener("visibilitychange", onVisible);
  connect();
  return { close };
};

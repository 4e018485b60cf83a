// Babelrec: sends what visitors see and click, if they consent. Stores nothing.
//   babelrec.init({url: "https://...", token: "...", consent: true});
//   <a data-babelrec-item="1003" data-babelrec-recommendation="..." data-babelrec-position="2">
(() => {
  "use strict";
  const ITEM = "[data-babelrec-item]", MOST = 50, watched = new WeakSet();
  let options = {}, queue = [], timer = 0, observer;

  const id = () =>
    crypto.randomUUID ? crypto.randomUUID() : Array.from(crypto.getRandomValues(new Uint32Array(4))).join("-");

  function flush() {
    clearTimeout(timer);
    timer = 0;
    while (options.consent && queue.length) {
      const url = options.url.replace(/\/$/, "") + "/v1/events";
      // Plain text: sent without a preflight, even while the page closes.
      const body = new Blob([JSON.stringify({ token: options.token, events: queue.splice(0, MOST) })], { type: "text/plain" });
      if (!navigator.sendBeacon(url, body))
        fetch(url, { method: "POST", body, keepalive: true, credentials: "omit" }).catch(() => {});
    }
  }

  function track(event, fields) {
    if (!options.consent) return;
    const timestamp = Math.floor(Date.now() / 1000);
    queue.push({ event_id: id(), event, timestamp, session_id: options.session, ...fields });
    if (queue.length >= MOST) flush();
    else timer = timer || setTimeout(flush, 3000);
  }

  function send(event, { dataset }) {
    const { babelrecItem: item_id, babelrecRecommendation: recommendation_id, babelrecPosition: position } = dataset;
    track(event, { item_id, recommendation_id, position: position && Number(position) });
  }

  // In a list an item is only shown; on its own page it is viewed.
  function see(entries) {
    for (const { isIntersecting, target } of entries)
      if (isIntersecting && options.consent) {
        observer.unobserve(target);
        send(target.dataset.babelrecRecommendation ? "impression" : "view", target);
      }
  }

  function watch() {
    for (const element of document.querySelectorAll(ITEM))
      if (!watched.has(element)) watched.add(element), observer.observe(element);
  }

  function consent(given) {
    options.consent = given === true;
    if (!options.consent) queue = [];
    else if (!observer) {
      observer = new IntersectionObserver(see, { threshold: 0.5 });
      watch();
      new MutationObserver(watch).observe(document, { childList: true, subtree: true });
      document.addEventListener("click", ({ target }) => {
        const element = target.closest(ITEM);
        if (element) send("click", element);
      }, true);
      document.addEventListener("visibilitychange", () => document.hidden && flush());
      addEventListener("pagehide", flush);
    }
  }

  window.babelrec = {
    init(given) {
      options = { ...given };
      consent(options.consent);
    },
    consent, track, flush
  };
})();

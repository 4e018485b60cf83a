// Plays a page for the script of the service, and prints what it sent: `node drive_snippet.js babelrec.js`.
"use strict";
const fs = require("fs");
const vm = require("vm");

const requests = [];
const listeners = {};
let observer = null;
let wait = null;
const element = (item, more) => ({
  dataset: { babelrecItem: item, ...more },
  closest() { return this; },
});
const elements = [element("急須", { babelrecRecommendation: "r-1", babelrecPosition: "2" }), element("1003", {})];
const listen = (name, act) => { listeners[name] = act; };
const window = {
  document: { querySelectorAll: () => elements, addEventListener: listen, hidden: false },
  addEventListener: listen,
  crypto: globalThis.crypto || require("crypto").webcrypto,
  navigator: { sendBeacon: (url, blob) => (requests.push({ url, type: blob.type, body: JSON.parse(blob.text) }), true) },
  Blob: class { constructor(parts, { type }) { this.text = parts.join(""); this.type = type; } },
  IntersectionObserver: class {
    constructor(act) { this.act = act; this.watched = []; observer = this; }
    observe(each) { this.watched.push(each); }
    unobserve(each) { this.watched = this.watched.filter((one) => one !== each); }
  },
  MutationObserver: class { observe() {} },
  setTimeout: (act) => { wait = act; return 1; },
  clearTimeout: () => { wait = null; },
  Date, Math, JSON, Object, Number, WeakSet, Array, Uint32Array,
};
window.window = window;
vm.runInNewContext(fs.readFileSync(process.argv[2], "utf8"), window);

const found = {};
const take = (name) => { found[name] = requests.splice(0); };
const babelrec = window.babelrec;
babelrec.track("click", { item_id: "1" });
babelrec.init({ url: "https://recommend.example/", token: "t", session: "visit", consent: false });
babelrec.track("click", { item_id: "1" });
babelrec.flush();
found["listeners before consent"] = Object.keys(listeners).length;
take("before consent");

babelrec.consent(true);
observer.act(elements.map((target) => ({ isIntersecting: true, target })));
observer.act([{ isIntersecting: false, target: elements[0] }]);
listeners.click({ target: elements[1] });
wait();
take("with consent");

for (let number = 0; number < 120; number++) babelrec.track("click", { item_id: String(number) });
listeners.pagehide();
found.many = requests.splice(0).map((request) => request.body.events.length);

babelrec.track("click", { item_id: "1" });
babelrec.consent(false);
babelrec.track("click", { item_id: "1" });
listeners.pagehide();
take("after withdrawal");
console.log(JSON.stringify(found));

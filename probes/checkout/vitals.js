// Runs at the beginning of each document, before the page's own scripts, and remembers what tells how quickly it came.
//
// The page may be hostile, and many an honest one replaces what JavaScript brings along: all that bounds what is read is taken now, before
// the page can lay hands on it. What else the page may forge is checked by whoever reads.
(() => {
  "use strict";
  const NAME = "__NAME__";
  // A window that was just opened keeps its globals when its first document comes.
  if (window.top !== window || window[NAME]) return;

  const bare = Function.prototype.bind.bind(Function.prototype.call);     // a method as a function of its object, out of the page's reach
  const getter = (owner, key) => bare(Object.getOwnPropertyDescriptor(owner, key).get);
  const slice = bare(String.prototype.slice);
  const encode = bare(TextEncoder.prototype.encode);
  const encoder = new TextEncoder();
  const trim = bare(String.prototype.trim);
  const lower = bare(String.prototype.toLowerCase);
  const test = bare(Set.prototype.has);
  const put = bare(Set.prototype.add);
  const all = bare(Document.prototype.querySelectorAll);
  const attribute = bare(Element.prototype.getAttribute);
  const boxes = bare(Element.prototype.getClientRects);
  const content = getter(Node.prototype, "textContent");
  const after = getter(Node.prototype, "nextSibling");
  const kind = getter(Node.prototype, "nodeName");
  const outer = getter(Element.prototype, "outerHTML");
  const root = getter(Document.prototype, "documentElement");
  const heading = getter(Document.prototype, "title");
  const frame = window.requestAnimationFrame.bind(window);
  const later = window.setTimeout.bind(window);
  const listen = window.addEventListener.bind(window);
  const state = getter(Document.prototype, "readyState");
  const entries = performance.getEntriesByType.bind(performance);
  const { imul, random, round } = Math;
  const { stringify } = JSON;
  const Words = Set, Bytes = Uint8Array, Later = Promise, Observer = window.PerformanceObserver;

  const seen = { __proto__: null, fcp: 0, lcp: 0, inp: 0, cls: 0, bytes: 0, interactions: 0 };
  const document_ = `${round(performance.timeOrigin)}-${round(random() * 1e9)}`;
  let shift = { __proto__: null, from: 0, last: 0, sum: 0 };

  const watch = (type, take, more) => {
    try {
      const all_ = (list) => { for (const entry of list.getEntries()) take(entry); };
      const observer = new Observer(all_);
      observer.observe({ type, buffered: true, ...more });
      return () => { for (const entry of observer.takeRecords()) take(entry); };
    } catch { return () => 0; }
  };
  const pending = [
    watch("paint", (entry) => { if (entry.name === "first-contentful-paint") seen.fcp = entry.startTime; }),
    watch("largest-contentful-paint", (entry) => { seen.lcp = entry.startTime; }),
    watch("event", (entry) => {
      if (entry.interactionId) { seen.interactions = 1; if (entry.duration > seen.inp) seen.inp = entry.duration; }
    }, { durationThreshold: 16 }),
    watch("resource", (entry) => { seen.bytes += entry.transferSize || 0; }),
    // Shifts less than 1 s apart, within 5 s, are one burst; the page's figure is that of its worst burst.
    watch("layout-shift", (entry) => {
      if (entry.hadRecentInput) return;
      const at = entry.startTime;
      if (at - shift.last >= 1000 || at - shift.from >= 5000) shift = { __proto__: null, from: at, last: at, sum: 0 };
      shift.last = at;
      shift.sum += entry.value;
      if (shift.sum > seen.cls) seen.cls = shift.sum;
    }),
  ];

  // Hash of a script's words without its strings, comments and digits, whatever their order and however often each stands there: a nonce, a
  // price or one more article in the basket make no new script, a call of something else does.
  // Works on bytes: a call for each character would take milliseconds of every page.
  const [LETTER, DIGIT, QUOTE] = [1, 2, 3];
  const KIND = new Bytes(256);
  for (let c = 0; c < 256; c++) {
    const letter = (c >= 97 && c <= 122) || (c >= 65 && c <= 90) || c === 95 || c === 36 || c > 127;
    KIND[c] = letter ? LETTER : c >= 48 && c <= 57 ? DIGIT : c === 34 || c === 39 || c === 96 ? QUOTE : 0;
  }
  const skeleton = (text) => {
    const words = new Words(), bytes = encode(encoder, text);
    let one = 0, two = 0, count = 0, at = 0, c;
    while ((c = bytes[at]) !== undefined && count < 5000) {
      const what = KIND[c];
      if (what === LETTER) {
        let h = 0x811c9dc5, k = what;
        for (; k === LETTER || k === DIGIT; k = KIND[c = bytes[++at]]) if (k === LETTER) h = imul(h ^ c, 0x01000193);
        if (!test(words, h)) { put(words, h); count++; one = (one + h) | 0; two = (two ^ imul(h, 0x9e3779b1)) | 0; }
      } else if (what === QUOTE) {                                       // a string; ' and " end with their line at the latest
        let d;
        while ((d = bytes[++at]) !== undefined && d !== c && (d !== 10 || c === 96)) if (d === 92) at++;
        at++;
      } else if (c === 47 && bytes[at + 1] === 47) {
        while ((c = bytes[++at]) !== undefined && c !== 10);
      } else if (c === 47 && bytes[at + 1] === 42) {
        for (at += 2; (c = bytes[at]) !== undefined && !(c === 42 && bytes[at + 1] === 47);) at++;
        at += 2;
      } else at++;
    }
    return `${one >>> 0}.${two >>> 0}`;
  };

  const EXECUTED = { __proto__: null, "": 1, module: 1, "text/javascript": 1, "application/javascript": 1, "text/ecmascript": 1,
    "application/ecmascript": 1, "application/x-javascript": 1, "text/jscript": 1, "text/babel": 1 };
  const cut = (text, most) => trim(slice(`${text}`, 0, most));
  const list = (selector, most, read) => {
    const found = { __proto__: null };
    const nodes = all(document, selector);
    let kept = 0;
    for (let i = 0; i < 500 && kept < most; i++) {
      const node = nodes[i];
      if (!node) break;
      const text = read(node);
      if (text) found[kept++] = text;
    }
    return found;
  };
  const visible = (most) => (node) => (boxes(node)[0] ? cut(content(node) || "", most) : "");

  const ALERTS = "[role=alert],.error,.errors,.errorlist,.error-message,.alert-danger,.alert-error,.alert--error,.woocommerce-error,.is-error," +
    ".message-error,.notice-error,.notification-error,.toast-error,.flash-error,.has-error .help-block,.wp-die-message,.xdebug-error,.invalid-feedback";
  const scripts = () => {
    let room = 1_000_000;
    return list("script:not([src])", 80, (node) => {
      const text = content(node) || "";
      const written = slice(text, 0, 200_000);
      const length = written.length;
      if (!length || room < length || !EXECUTED[lower(trim(slice(attribute(node, "type") || "", 0, 60)))]) return "";
      room -= length;
      return `${skeleton(written)} ${cut(written, 160)}`;
    });
  };
  const printed = (node) => {                                            // "<br><b>Warning</b>:  what in <b>FILE</b>"
    const next = after(node), bold = next && after(next);
    if (!bold || kind(bold) !== "B") return "";
    const text = content(next) || "";
    return `${cut(content(node) || "", 40)}${slice(text, 0, 120)} ${slice(text, -6)}`;
  };

  const read = () => {
    collect();
    let first = {};
    try { first = entries("navigation")[0] || {}; } catch { /* forged by the page */ }
    return stringify({
      __proto__: null, document: document_, ttfb: first.responseStart, sent: first.transferSize, bytes: seen.bytes,
      fcp: seen.fcp, lcp: seen.lcp, cls: seen.cls, inp: seen.interactions ? seen.inp : 0, title: cut(heading(document), 300),
      headings: list("h1,h2", 12, visible(200)), alerts: list(ALERTS, 12, visible(300)), printed: list("br + b", 5, printed),
      robots: list('meta[name="robots" i],meta[name="googlebot" i]', 3, (node) => cut(attribute(node, "content") || "", 100)),
      scripts: scripts(),
    });
  };
  const collect = () => { for (let i = 0; i < 5; i++) try { pending[i](); } catch { /* forged by the page */ } };
  // The browser tells of a paint a moment after the frame.
  const painted = (done) => frame(() => frame(() => { collect(); if (seen.fcp) done(); else later(done, 120); }));
  const settled = () => new Later((done) => { later(done, 300); painted(done); });
  // A load event that does not come is not waited for without end.
  const loaded = (within) => new Later((done) => { if (state(document) === "complete") done(); else { listen("load", done); later(done, within); } });

  Object.defineProperty(window, NAME, {
    value: (what, loading) => (what === "html" ? slice(outer(root(document)), 0, 1_500_000) : loaded(loading).then(settled).then(read)),
  });
})();

// The page of a terminal. What it prints is hostile: xterm.js is the only one who interprets it, and it may
// change nothing outside its box.
(() => {
  "use strict";

  const box = document.getElementById("terminal");
  if (!box) return;
  const { address, csrf } = box.dataset;
  const writable = "writable" in box.dataset;
  const CHUNK = 16 * 1024; // bytes of input in one request
  const LIMIT = 64 * 1024; // bytes of input that wait for a connection; more is dropped

  // --- styles without inline styles ---------------------------------------------
  // xterm.js writes <style> elements and style attributes, which the content security policy forbids. The
  // same rules through the object model are allowed: they cannot come from markup.
  const create = document.createElement.bind(document);
  document.createElement = (name, ...rest) => {
    if (String(name).toLowerCase() !== "style") return create(name, ...rest);
    const sheet = new CSSStyleSheet();
    document.adoptedStyleSheets.push(sheet);
    // Even an empty <style> would be refused; this one is never shown.
    const element = create("template");
    Object.defineProperty(element, "textContent", { set: (css) => sheet.replaceSync(css) });
    return element;
  };
  const setAttribute = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };

  // --- the terminal ---------------------------------------------------------------
  // The colours of logs, which follow the reader's theme.
  function theme() {
    const color = (element) => getComputedStyle(element).color;
    const probe = box.appendChild(document.createElement("span"));
    const names = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
    const colors = {};
    names.forEach((name, number) => {
      probe.className = "f-" + number;
      colors[name] = colors["bright" + name[0].toUpperCase() + name.slice(1)] = color(probe);
    });
    probe.remove();
    const foreground = color(box), background = getComputedStyle(box).backgroundColor;
    return { ...colors, foreground, background, cursor: foreground, cursorAccent: background };
  }
  const term = new Terminal({
    cols: Number(box.dataset.cols),
    rows: Number(box.dataset.rows),
    cursorBlink: writable,
    disableStdin: !writable,
    fontFamily: getComputedStyle(box).fontFamily,
    fontSize: 13,
    scrollback: 10000,
    theme: theme(),
  });
  // Title, icon, hyperlinks, clipboard: nothing outside the box, and no way out of the page.
  for (const code of [0, 1, 2, 8, 52]) term.parser.registerOscHandler(code, () => true);
  term.open(box);
  const retheme = () => (term.options.theme = theme());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
  term.attachCustomKeyEventHandler((event) => {
    if (event.key !== "F6" || !event.ctrlKey) return true;
    document.getElementById("close-terminal")?.focus();
    return false;
  });

  const state = document.getElementById("terminal-state");
  let over = false;
  function show(text, color) {
    state.textContent = text;
    state.className = "badge " + color;
  }
  function finish(text) {
    over = true;
    term.options.disableStdin = true;
    term.options.cursorBlink = false;
    show(text, "");
  }

  function post(verb, query, body) {
    const headers = { "x-csrf-token": csrf };
    return fetch(`${address}/${verb}?${query}`, { method: "POST", headers, body });
  }
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  // --- typing -------------------------------------------------------------------
  // One request at a time, each at an offset: one that is sent again is not typed again.
  let offset = Number(box.dataset.typed);
  let waiting = new Uint8Array();
  let sending = false;
  function type(bytes) {
    if (over || !writable || waiting.length + bytes.length > LIMIT) return;
    const all = new Uint8Array(waiting.length + bytes.length);
    all.set(waiting);
    all.set(bytes, waiting.length);
    waiting = all;
    send();
  }
  async function send() {
    if (sending) return;
    sending = true;
    let failures = 0;
    while (waiting.length && !over) {
      const chunk = waiting.slice(0, CHUNK);
      try {
        const answer = await post("input", "offset=" + offset, chunk);
        if (answer.status === 200) {
          offset += chunk.length;
          waiting = waiting.slice(chunk.length);
          if (failures) show("open", "blue");
          failures = 0;
          continue;
        }
        if (answer.status === 409) {
          // Another page of the same person typed, or an answer was lost.
          offset = Number(await answer.text());
          continue;
        }
        if (answer.status === 410) break; // the stream says why
        if (answer.status < 500) {
          finish(answer.status === 413 ? "too much input" : "not allowed: log in again");
          break;
        }
      } catch {
        // No connection: the same again later.
      }
      failures = Math.min(failures + 1, 5);
      show("connection lost", "amber");
      await pause(250 * 2 ** failures);
    }
    sending = false;
  }
  term.onData((text) => type(new TextEncoder().encode(text)));
  term.onBinary((text) => type(Uint8Array.from(text, (c) => c.charCodeAt(0))));

  // --- size ---------------------------------------------------------------------
  // The page of the one who types decides; the others show what that one sees.
  let told = `${term.cols}x${term.rows}`;
  let telling = false;
  async function tell() {
    if (telling) return;
    telling = true;
    for (let failures = 0; !over && told !== `${term.cols}x${term.rows}`; ) {
      const [cols, rows] = [term.cols, term.rows];
      try {
        const answer = await post("size", `cols=${cols}&rows=${rows}`);
        if (answer.status < 500) told = `${cols}x${rows}`;
      } catch {
        // The same again later.
      }
      if (told !== `${cols}x${rows}`) await pause(250 * 2 ** (failures = Math.min(failures + 1, 5)));
    }
    telling = false;
  }
  if (writable) {
    const fit = new FitAddon.FitAddon();
    term.loadAddon(fit);
    term.onResize(tell);
    new ResizeObserver(() => over || fit.fit()).observe(box);
  }

  // --- what it prints -------------------------------------------------------------
  const stream = htmx.createEventSource(address + "/stream?from=0");
  stream.addEventListener("output", (event) => {
    term.write(Uint8Array.from(atob(event.data), (c) => c.charCodeAt(0)));
  });
  stream.addEventListener("size", (event) => {
    const [cols, rows] = event.data.split("x").map(Number);
    if (!writable) term.resize(cols, rows);
  });
  stream.addEventListener("end", (event) => {
    stream.close();
    finish(event.data);
  });
  stream.onopen = () => over || show("open", "blue");
  if (writable) term.focus();
})();

// Makes the pages live. Everything works without this file, only not by itself.
// Job output is hostile: it reaches the page as text nodes and never as markup.
(() => {
  "use strict";

  const MAX_LINES = 4000; // per log entry; older ones leave the page and can be loaded again
  const STYLE = /^(?:(?:s-[bdiusr]|[fk]-[0-7])(?: |$))*$/;

  // --- times -------------------------------------------------------------
  function duration(seconds) {
    seconds = Math.max(0, Math.floor(seconds));
    const d = Math.floor(seconds / 86400), h = Math.floor(seconds / 3600) % 24;
    const m = Math.floor(seconds / 60) % 60, s = seconds % 60;
    if (d) return d + " d " + h + " h";
    if (h) return h + " h " + m + " min";
    if (m) return m + " min " + s + " s";
    return s + " s";
  }
  function ago(seconds) {
    if (seconds < 2) return "just now";
    if (seconds < 60) return Math.floor(seconds) + " s ago";
    if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
    if (seconds < 86400) return Math.floor(seconds / 3600) + " h ago";
    return Math.floor(seconds / 86400) + " d ago";
  }
  // The server's clock decides; the reader's may be wrong.
  const skew = (() => {
    const now = document.documentElement.dataset.now;
    return now ? Date.now() - Date.parse(now) : 0;
  })();
  function tick() {
    const now = Date.now() - skew;
    for (const time of document.querySelectorAll("time[data-tick]")) {
      const seconds = (now - Date.parse(time.dateTime)) / 1000;
      const text = { since: duration, left: (s) => duration(-s), ago }[time.dataset.tick]?.(seconds) ?? "";
      if (time.textContent !== text) time.textContent = text;
    }
  }
  setInterval(tick, 1000);

  // --- live updates ------------------------------------------------------------
  // An event source that goes on where it stopped, and is closed while nobody looks: browsers allow only
  // a few connections to one site, over all tabs.
  class Stream {
    constructor(url) {
      this.url = url;
      this.last = "";
      this.failures = 0;
      this.listeners = [];
      this.watch = () => this.follow();
      document.addEventListener("visibilitychange", this.watch);
      this.follow();
    }
    follow() {
      if (document.hidden) {
        this.source?.close();
        this.source = null;
      } else if (!this.source && !this.closed) {
        this.connect();
      }
    }
    connect() {
      const resume = this.last && "&resume=" + encodeURIComponent(this.last);
      const source = (this.source = new EventSource(this.url + resume));
      for (const [type, listener] of this.listeners) source.addEventListener(type, listener);
      source.onopen = (event) => {
        this.failures = 0;
        this.onopen?.(event);
      };
      source.onerror = () => {
        // A lost connection comes back by itself; a refused one is asked for again, ever more seldom.
        if (source.readyState !== EventSource.CLOSED || this.source !== source) return;
        this.source = null;
        this.failures = Math.min(this.failures + 1, 5);
        setTimeout(this.watch, 1000 * 2 ** this.failures);
      };
    }
    addEventListener(type, listener) {
      const remembering = (event) => {
        if (event.lastEventId) this.last = event.lastEventId;
        listener(event);
      };
      this.listeners.push([type, remembering]);
      this.source?.addEventListener(type, remembering);
    }
    removeEventListener() {} // elements that listen stay as long as the page
    get readyState() {
      return this.source?.readyState ?? EventSource.CONNECTING;
    }
    close() {
      this.closed = true;
      this.source?.close();
      document.removeEventListener("visibilitychange", this.watch);
    }
  }
  htmx.createEventSource = (url) => new Stream(url);

  // --- fragments keep what the reader had opened -----------------------------
  let open = [];
  document.addEventListener("htmx:beforeSwap", remember);
  document.addEventListener("htmx:sseBeforeMessage", remember);
  function remember(event) {
    open = [...event.target.querySelectorAll("details[id][open]")].map((d) => d.id);
  }
  document.addEventListener("htmx:sseMessage", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    tick();
  });

  // --- job log -------------------------------------------------------------
  function lineElement(kind) {
    const element = document.createElement("div");
    element.className = kind === "e" ? "ln err" : "ln";
    return element;
  }
  function fill(element, spans) {
    for (const [style, text] of spans) {
      if (style && STYLE.test(style)) {
        const span = document.createElement("span");
        span.className = style;
        span.textContent = text;
        element.append(span);
      } else {
        element.append(text);
      }
    }
  }
  // message: {entry, restart, lines: [[how, kind, offset, spans]]}; how: n(ew), a(ppend to the last), r(eplace the last)
  function append(message) {
    const box = document.getElementById("lines-" + message.entry);
    if (!box) return;
    if (message.restart) box.replaceChildren();
    const follow = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    let last = box.lastElementChild;
    for (const [how, kind, offset, spans] of message.lines) {
      if (how === "n" || !last) {
        last = lineElement(kind);
        last.dataset.at = offset;
        box.append(last);
      } else if (how === "r") {
        last.replaceChildren();
      }
      fill(last, spans);
    }
    if (box.childElementCount > MAX_LINES) prune(box);
    if (follow) box.scrollTop = box.scrollHeight;
  }
  function prune(box) {
    while (box.childElementCount > MAX_LINES) box.firstElementChild.remove();
    const form = document.getElementById("earlier-" + box.dataset.entry);
    if (!form) return;
    form.elements.before.value = box.firstElementChild.dataset.at;
    form.hidden = false;
  }
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    if (event.target.id === "feed") {
      event.preventDefault();
      append(JSON.parse(event.detail.data));
    }
    if (event.target.id === "reload") {
      event.preventDefault();
      location.reload();
    }
  });
  for (const box of document.querySelectorAll(".lines")) box.scrollTop = box.scrollHeight;
  document.addEventListener("toggle", (event) => {
    const box = event.target.open && event.target.querySelector?.(".lines");
    if (box) box.scrollTop = box.scrollHeight;
  }, true);

  // --- editor: the gutter follows the text ------------------------------------
  for (const area of document.querySelectorAll("textarea[data-editor]")) {
    const gutter = area.previousElementSibling;
    area.addEventListener("input", () => {
      const lines = Math.max(area.value.split("\n").length + 1, 12);
      while (gutter.childElementCount < lines) {
        const number = document.createElement("li");
        number.textContent = gutter.childElementCount + 1;
        gutter.append(number);
      }
      while (gutter.childElementCount > lines) gutter.lastElementChild.remove();
      for (const bad of gutter.querySelectorAll(".bad")) bad.classList.remove("bad");
      area.rows = lines;
    });
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-line]");
    if (!link) return;
    const area = document.querySelector(link.hash);
    if (!area) return;
    event.preventDefault();
    const before = area.value.split("\n").slice(0, link.dataset.line - 1);
    const at = before.reduce((sum, line) => sum + line.length + 1, 0) + Number(link.dataset.column) - 1;
    area.focus();
    area.setSelectionRange(at, at);
    area.previousElementSibling.children[link.dataset.line - 1]?.scrollIntoView({ block: "center" });
  });

  // --- messages have been read after a while -------------------------------------
  setTimeout(() => document.querySelector(".flash.ok")?.remove(), 8000);

  // --- small helpers ----------------------------------------------------------
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue; // only in a secure context
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
})();

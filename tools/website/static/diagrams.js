// Draw the diagrams of a page with the Mermaid that tools/website/mermaid.py copied, in the colours
// of the page, and once more when the reader changes between light and dark. Without it, or
// without JavaScript, a diagram's source stays open as text.
(() => {
  "use strict";
  const places = [...document.querySelectorAll(".diagram > .mermaid")];
  const pieces = window.mermaidPieces;
  if (!places.length || !pieces) return;

  const folder = new URL("mermaid/", document.currentScript.src);
  const modules = {};
  const loaded = {};
  const chunks = {};

  // What the pieces expect of their loader: rspack's runtime, as far as Mermaid uses it.
  function load(id) {
    if (loaded[id]) return loaded[id].exports;
    const module = (loaded[id] = { id, loaded: false, exports: {} });
    modules[id].call(module.exports, module, module.exports, load);
    module.loaded = true;
    return module.exports;
  }
  load.m = modules;
  load.g = window;
  load.o = (object, name) => Object.prototype.hasOwnProperty.call(object, name);
  load.d = (exports, getters) => {
    for (const name in getters)
      if (load.o(getters, name) && !load.o(exports, name))
        Object.defineProperty(exports, name, { enumerable: true, get: getters[name] });
  };
  load.r = (exports) => {
    Object.defineProperty(exports, Symbol.toStringTag, { value: "Module" });
    Object.defineProperty(exports, "__esModule", { value: true });
  };
  load.n = (module) => {
    const getter = module && module.__esModule ? () => module.default : () => module;
    load.d(getter, { a: getter });
    return getter;
  };
  load.nmd = (module) => Object.assign(module, { paths: [], children: module.children || [] });
  load.hmd = load.nmd;
  load.t = function (value, mode) {
    if (mode & 1) value = this(value);
    if (mode & 8 || (mode & 4 && value && value.__esModule)) return value;
    const namespace = Object.create(null);
    load.r(namespace);
    const getters = { default: () => value };
    if (mode & 2 && value) for (const name of Object.getOwnPropertyNames(value))
      if (name !== "default") getters[name] = () => value[name];
    load.d(namespace, getters);
    return namespace;
  };
  load.e = (chunk) => (chunks[chunk] ||= Promise.all([script(chunk), ...shared(chunk)]));

  function script(chunk) {
    const name = pieces.files[chunk];
    if (!name) return Promise.resolve();
    return new Promise((done, failed) => {
      const element = document.createElement("script");
      element.src = new URL(name, folder);
      element.onload = done;
      element.onerror = () => failed(new Error(`${name} can't be loaded`));
      document.head.append(element);
    });
  }

  function shared(chunk) {
    return Object.entries(pieces.shared)
      .filter(([, [asking]]) => asking === String(chunk))
      .map(async ([id, [, needed, real]]) => {
        await Promise.all(needed.map(load.e));
        modules[id] = (module) => (module.exports = load(real));
      });
  }

  const queue = (self.rspackChunk_jupyterlab_application_top ||= []);
  queue.push = ([, more]) => Object.assign(modules, more);

  const isDark = () => document.documentElement.dataset.theme === "dark";
  const sources = places.map((place) => place.textContent);
  let drawn = 0;

  async function draw(mermaid) {
    mermaid.initialize({
      startOnLoad: false,
      securityLevel: "strict",
      theme: isDark() ? "dark" : "default",
      themeVariables: isDark() ? { edgeLabelBackground: "#2b2b2b" } : {},
      fontFamily: getComputedStyle(document.body).fontFamily,
    });
    for (const [number, place] of places.entries()) {
      drawn += 1;
      const { svg } = await mermaid.render(`diagram-${drawn}`, sources[number]);
      place.innerHTML = svg;
      place.hidden = false;
      place.dataset.drawn = isDark() ? "dark" : "light";
    }
  }

  async function begin() {
    await Promise.all(pieces.chunks.map(load.e));
    const mermaid = load(pieces.module).default;
    await document.fonts.ready;
    await draw(mermaid);
    let turn = Promise.resolve();
    let was = isDark();
    new MutationObserver(() => {
      if (isDark() === was) return;
      was = isDark();
      turn = turn.then(() => draw(mermaid));
    }).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  begin().catch((error) => {
    console.error("The diagrams can't be drawn:", error);
    for (const place of places) place.parentElement.querySelector("details.source").open = true;
  });
})();

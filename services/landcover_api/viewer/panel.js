/** The panel: scene, model, layer, opacity, legend and addresses. It shows the state and reports what was chosen. */

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

/** Narrower than this the panel is a sheet at the bottom, closed at first. Also in viewer.css. */
const PHONE = matchMedia("(max-width: 640px)");

/**
 * @typedef {object} Choices what the panel reports
 * @property {(id: string) => void} scene
 * @property {(name: string) => void} model
 * @property {(layer: "class" | "confidence") => void} layer
 * @property {(percent: number) => void} opacity
 * @property {(hidden: number[]) => void} hidden
 * @property {() => void} zoomToScene
 */

export class Panel {
  /** @param {Choices} choices */
  constructor(choices) {
    this.choices = choices;
    element("scene").addEventListener("change", (event) => choices.scene(event.target.value));
    element("model").addEventListener("change", (event) => choices.model(event.target.value));
    element("opacity").addEventListener("input", (event) => choices.opacity(Number(event.target.value)));
    element("zoom-to-scene").addEventListener("click", () => choices.zoomToScene());
    element("all-classes").addEventListener("click", () => this.#switchAll());
    for (const radio of document.querySelectorAll("input[name=layer]")) {
      radio.addEventListener("change", (event) => choices.layer(event.target.value));
    }
    for (const button of document.querySelectorAll("button[data-copy]")) {
      button.addEventListener("click", () => copy(button, element(button.dataset.copy)));
    }
    element("addresses").addEventListener("toggle", (event) => {
      if (event.target.open) event.target.scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
    element("panel-toggle").addEventListener("click", () => this.#open(!this.isOpen));
    PHONE.addEventListener("change", () => this.#open(!PHONE.matches));
    this.#open(!PHONE.matches);
    element("panel-toggle").disabled = false;
  }

  get isOpen() {
    return document.body.classList.contains("panel-open");
  }

  /** Open or close it where it covers the map. @param {boolean} visible */
  makeVisible(visible) {
    if (PHONE.matches) this.#open(visible);
  }

  /** @param {boolean} open */
  #open(open) {
    document.body.classList.toggle("panel-open", open);
    element("panel-toggle").setAttribute("aria-expanded", String(open));
  }

  /** Pixels of the map that the panel covers on each side. */
  get cover() {
    const box = element("panel").getBoundingClientRect();
    return PHONE.matches
      ? { left: 0, bottom: innerHeight - box.top }
      : { left: box.right, bottom: 0 };
  }

  /**
   * @param {import("./api.js").Scene[]} scenes
   * @param {import("./api.js").Model[]} models
   */
  offer(scenes, models) {
    const names = scenes.map(({ id, title, bounds }) => [id, (title ?? id) + (bounds ? "" : " (not readable)")]);
    fill(element("scene"), names);
    fill(element("model"), models.map((model) => [model.name, model.name]));
  }

  /**
   * @param {import("./state.js").State} state
   * @param {import("./api.js").Scene | undefined} scene
   * @param {import("./api.js").Model | undefined} model
   */
  show(state, scene, model) {
    element("scene").value = scene?.id ?? "";
    element("model").value = model?.name ?? "";
    element("scene-note").textContent = scene?.bounds ? describeScene(scene) : "";
    element("model-note").textContent = model ? describeModel(model) : "";
    element("zoom-to-scene").disabled = !scene?.bounds;
    element("opacity").value = state.opacity;
    element("opacity-value").textContent = `${state.opacity} %`;
    element("confidence-scale").hidden = state.layer !== "confidence";
    for (const radio of document.querySelectorAll("input[name=layer]")) {
      radio.checked = radio.value === state.layer;
    }
    this.#showLegend(model?.classes ?? [], state.hidden);
  }

  /** @param {{xyz: string, tilejson: string, wmts: string} | null} addresses */
  showAddresses(addresses) {
    for (const kind of ["xyz", "tilejson", "wmts"]) element(`address-${kind}`).value = addresses?.[kind] ?? "";
  }

  /**
   * @param {import("./api.js").LandCoverClass[]} classes
   * @param {number[]} hidden
   */
  #showLegend(classes, hidden) {
    const list = element("legend");
    const signature = JSON.stringify(classes);
    if (list.dataset.classes !== signature) {
      list.dataset.classes = signature;
      list.replaceChildren(...classes.map((each) => this.#legendEntry(each)));
    }
    for (const box of list.querySelectorAll("input")) box.checked = !hidden.includes(Number(box.value));
    element("all-classes").textContent = hidden.length ? "Show all" : "Hide all";
    element("all-classes").hidden = classes.length === 0;
  }

  /** @param {import("./api.js").LandCoverClass} landCoverClass */
  #legendEntry({ value, name, color }) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = String(value);
    box.addEventListener("change", () => this.choices.hidden(this.#unchecked()));
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = color;
    const text = document.createElement("span");
    text.className = "name";
    text.textContent = name;
    const label = document.createElement("label");
    label.append(box, swatch, text);
    const entry = document.createElement("li");
    entry.append(label);
    return entry;
  }

  #boxes() {
    return [...element("legend").querySelectorAll("input")];
  }

  #unchecked() {
    return this.#boxes().filter((box) => !box.checked).map((box) => Number(box.value));
  }

  #switchAll() {
    this.choices.hidden(this.#unchecked().length ? [] : this.#boxes().map((box) => Number(box.value)));
  }
}

/** @param {HTMLSelectElement} select @param {string[][]} options value and text */
function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.disabled = options.length < 2;
}

/** @param {import("./api.js").Scene} scene */
const describeScene = ({ gsd_m, crs }) => `${length(gsd_m)} a pixel · ${crs}`;

/** @param {import("./api.js").Model} model */
function describeModel({ description, gsd, metrics }) {
  const parts = [];
  if (description) parts.push(description.replace(/\.?$/, "."));
  else if (gsd) parts.push(`For pixels of ${length(gsd.min_m)} to ${length(gsd.max_m)}.`);
  if (metrics) {
    const percent = (/** @type {number} */ share) => `${Math.round(share * 100)} %`;
    parts.push(`Accuracy ${percent(metrics.overall_accuracy)}, mean IoU ${percent(metrics.mean_iou)} (${metrics.dataset}).`);
  }
  return parts.join(" ");
}

/** @param {number} metres */
const length = (metres) => (metres < 1 ? `${Number((metres * 100).toPrecision(3))} cm` : `${Number(metres.toPrecision(3))} m`);

/** @param {HTMLButtonElement} button @param {HTMLInputElement} field */
async function copy(button, field) {
  field.select();
  let copied = true;
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    // Browsers offer the clipboard to https and localhost only; a plain http page in a local network has this.
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

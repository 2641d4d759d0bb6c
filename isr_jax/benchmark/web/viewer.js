"use strict";

/** Panes that zoom and move together. `left` and `top` are in widths and heights of the enlarged picture's pane. */
class Viewer {
  constructor(root) {
    this.root = root;
    this.pointers = new Map();
    root.classList.add("viewer");
    root.tabIndex = 0;
    root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.down(event));
    root.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) root.addEventListener(name, (event) => this.up(event));
    root.addEventListener("dblclick", (event) => this.toggle(event));
    root.addEventListener("keydown", (event) => this.key(event));
    this.split(50);
    this.reset();
  }

  reset() {
    this.zoom = 1;
    this.left = this.top = 0;
    this.show();
  }

  /** Multiplies the zoom and keeps the point (x, y), in 0..1 of the pane, where it is. */
  zoomBy(factor, x = 0.5, y = 0.5) {
    const zoom = Math.min(32, Math.max(1, this.zoom * factor));
    const ratio = zoom / this.zoom;
    this.left = (this.left + x) * ratio - x;
    this.top = (this.top + y) * ratio - y;
    this.zoom = zoom;
    this.show();
  }

  moveBy(dx, dy) {
    this.left -= dx;
    this.top -= dy;
    this.show();
  }

  split(percent) {
    this.root.style.setProperty("--split", `${percent}%`);
    const range = this.root.querySelector("input.split");
    if (range) range.value = percent;
  }

  show() {
    const limit = (value) => Math.min(this.zoom - 1, Math.max(0, value));
    this.left = limit(this.left);
    this.top = limit(this.top);
    const style = this.root.style;
    style.setProperty("--zoom", this.zoom);
    style.setProperty("--left", this.left);
    style.setProperty("--top", this.top);
    this.root.classList.toggle("zoomed", this.zoom > 1);
    this.root.classList.toggle("close", this.zoom >= 3);
    const output = this.root.querySelector(".zoom");
    if (output) output.textContent = `${this.zoom.toFixed(this.zoom < 10 ? 1 : 0)}×`;
  }

  place(pane, event) {
    const box = pane.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, box];
  }

  wheel(event) {
    const pane = event.target.closest(".pane");
    if (!pane || !(event.ctrlKey || event.metaKey)) return; // without a key the wheel scrolls the page
    event.preventDefault();
    const [x, y] = this.place(pane, event);
    this.zoomBy(Math.exp(-event.deltaY / 250), x, y);
  }

  down(event) {
    const pane = event.target.closest(".pane");
    if (!pane || event.button) return;
    this.dragged = event.target.closest(".handle") ? "split" : "picture";
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.pane = pane;
    pane.setPointerCapture(event.pointerId);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [x, , box] = this.place(this.pane, event);
    if (this.dragged === "split") return this.split(Math.min(100, Math.max(0, 100 * x)));
    const distance = () => {
      const [a, b] = [...this.pointers.values()];
      return Math.hypot(a[0] - b[0], a[1] - b[1]);
    };
    const two = this.pointers.size === 2;
    const old = two && distance();
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (two) {
      const [a, b] = [...this.pointers.values()];
      this.zoomBy(distance() / Math.max(1, old), ((a[0] + b[0]) / 2 - box.left) / box.width,
        ((a[1] + b[1]) / 2 - box.top) / box.height);
    }
    const share = two ? 0.5 : 1;
    this.moveBy((share * (event.clientX - before[0])) / box.width, (share * (event.clientY - before[1])) / box.height);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
  }

  toggle(event) {
    const pane = event.target.closest(".pane");
    if (!pane || event.target.closest(".handle")) return;
    const [x, y] = this.place(pane, event);
    if (this.zoom > 1) this.reset();
    else this.zoomBy(4, x, y);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const steps = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
    else if (event.key === "-") this.zoomBy(1 / 1.5);
    else if (event.key === "0") this.reset();
    else if (steps[event.key] && this.zoom > 1) this.moveBy(...steps[event.key]);
    else return;
    event.preventDefault();
  }
}

/** Makes an element; children are elements or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function image(source, alt, kind = "") {
  return make("img", { src: source, alt, class: kind, draggable: "false" });
}

/** A pane in which a line parts two pictures: `before` to its left, `after` to its right. */
function comparison(before, after, width, height) {
  return make("div", { class: "pane compare", style: `aspect-ratio: ${width} / ${height}; --ratio: ${width / height}` },
    image(after.source, after.label, after.kind),
    make("div", { class: "clip" }, image(before.source, before.label, before.kind)),
    make("div", { class: "handle" }),
    make("span", { class: "tag left" }, before.label), make("span", { class: "tag right" }, after.label));
}

/** The button that goes round auto, dark, light. */
function themeButton(button) {
  const themes = ["auto", "dark", "light"];
  button.addEventListener("click", () => {
    const theme = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3];
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  });
}

"use strict";
// Drawing: elements, scales and axes of SVG charts. Text enters by textContent alone.

const SVG = "http://www.w3.org/2000/svg";

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  return fill(node, attributes, children);
}

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  return fill(node, attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function text(x, y, content, attributes = {}) {
  return svg("text", { x, y, ...attributes }, content);
}

/** `value` to so many significant digits, with `exact` its zeros too; an exponent only outside 1e-3 to 1e9. */
function number(value, digits = 4, exact = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e9) return value.toExponential(digits - 1);
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  const rounded = Number(value.toPrecision(digits));
  return rounded.toLocaleString("en", { minimumFractionDigits: exact ? places : 0, maximumFractionDigits: places });
}

function bytes(value) {
  for (const [unit, size] of [["M", 1 << 20], ["K", 1 << 10]]) {
    if (value >= size && value % size === 0) return `${value / size}${unit}`;
  }
  return `${value}`;
}

function extent(values, logarithmic, padding = 0.06) {
  const kept = values.filter((v) => Number.isFinite(v) && (!logarithmic || v > 0));
  let low = Infinity;
  let high = -Infinity;
  for (const value of kept) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!kept.length) return logarithmic ? [1, 10] : [0, 1];
  if (logarithmic) {
    const pad = Math.max((high / low) ** padding, 1.02);
    return [low / pad, high * pad];
  }
  const pad = Math.max(padding * (high - low), 0.01 * Math.abs(high), 1e-300);
  return [low - pad, high + pad];
}

/** A function from values to pixels, with its `ticks`. */
function scale(domain, range, logarithmic, most = 6, whole = false) {
  const f = logarithmic ? Math.log10 : (v) => v;
  const [a, b] = domain.map(f);
  const map = (value) => range[0] + ((f(value) - a) / (b - a || 1)) * (range[1] - range[0]);
  map.ticks = logarithmic ? logTicks(domain, most) : linearTicks(domain, most);
  if (whole) map.ticks = map.ticks.filter(Number.isInteger);
  return map;
}

function linearTicks([low, high], most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= rough * 0.999);
  const first = Math.ceil(low / step);
  const ticks = [];
  for (let i = first; i * step <= high * (1 + 1e-12); i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function logTicks(domain, most) {
  const [low, high] = domain;
  for (const multiples of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const m of multiples) {
        const tick = Number((m * 10 ** e).toPrecision(6));
        if (tick >= low && tick <= high) ticks.push(tick);
      }
    }
    if (ticks.length < 3 && multiples.length === 9) return linearTicks(domain, most);
    if (ticks.length <= most + 1) return ticks;
  }
  const decades = Math.ceil(Math.log10(high / low) / most);
  const first = Math.ceil(Math.log10(low) / decades);
  const ticks = [];
  for (let e = first * decades; e <= Math.log10(high); e += decades) ticks.push(10 ** e);
  return ticks;
}

/** The room left of a vertical axis with such ticks: their numbers, and the title of the axis. */
function margin(ticks) {
  return 34 + 7.2 * Math.max(1, ...ticks.map((tick) => number(tick).length));
}

/** An empty chart in `host`: its SVG, the inner box, and `axes(x, y, xTitle, yTitle)`. */
function chart(host, { height, label, left = 58, bottom = 46, top = 14, right = 14, role = "img" }) {
  const width = Math.max(280, Math.floor(host.clientWidth) || 640);
  const root = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, role, "aria-label": label, class: "chart",
  });
  host.replaceChildren(root);
  const box = { left, top, right: width - right, bottom: height - bottom };
  const axes = (x, y, xTitle, yTitle) => {
    const grid = svg("g", { class: "axis", "aria-hidden": "true" });
    for (const tick of x.ticks) {
      const at = x(tick);
      grid.append(
        svg("line", { x1: at, x2: at, y1: box.top, y2: box.bottom }),
        text(at, box.bottom + 16, number(tick), { "text-anchor": "middle" }),
      );
    }
    for (const tick of y.ticks) {
      const at = y(tick);
      grid.append(
        svg("line", { x1: box.left, x2: box.right, y1: at, y2: at }),
        text(box.left - 6, at + 4, number(tick), { "text-anchor": "end" }),
      );
    }
    const middle = (box.top + box.bottom) / 2;
    grid.append(
      text((box.left + box.right) / 2, height - 6, xTitle, { "text-anchor": "middle", class: "title" }),
      text(13, middle, yTitle, {
        "text-anchor": "middle", class: "title", transform: `rotate(-90 13 ${middle})`,
      }),
    );
    root.append(grid);
  };
  return { root, width, box, axes };
}

function legend(host, entries) {
  const list = el("ul", { class: "legend" });
  for (const [name, colour] of entries) {
    list.append(el("li", {}, el("span", { class: "swatch", style: `background:${colour}` }), name));
  }
  host.append(list);
}

function polyline(points, attributes) {
  return svg("polyline", { points: points.map((p) => p.join(",")).join(" "), fill: "none", ...attributes });
}

const VIRIDIS = [
  [253, 231, 37], [181, 222, 43], [110, 206, 88], [53, 183, 121], [31, 158, 137],
  [38, 130, 142], [49, 104, 142], [62, 73, 137], [72, 40, 120],
];

/** The colour of a share 0 (best, light) to 1 (worst, dark), and the ink to write on it. */
function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const rgb = VIRIDIS[i].map((v, k) => Math.round(v + (VIRIDIS[i + 1][k] - v) * (at - i)));
  const [r, g, b] = rgb.map((v) => ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return { colour: `rgb(${rgb.join(",")})`, ink: light > 0.22 ? "#111" : "#fff" };
}

// Okabe and Ito's colours, in an order that keeps neighbours apart, and the ink to write on them.
const PARTS = [
  ["#0072B2", "#fff"], ["#E69F00", "#111"], ["#009E73", "#111"], ["#CC79A7", "#111"],
  ["#56B4E9", "#111"], ["#D55E00", "#fff"], ["#F0E442", "#111"], ["#8A9299", "#111"],
];

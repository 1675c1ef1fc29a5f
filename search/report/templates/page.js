"use strict";
// The page: one selected point that every chart shows, and the controls of each section.

const run = JSON.parse(document.getElementById("run-data").textContent);
const byPoint = new Map(run.front.map((p) => [p.point, p]));
const $ = (id) => document.getElementById(id);
const redraws = [];
let paper = false; // drawn for print
let selected = run.selected;

function title(key) {
  const { label, unit } = run.metrics[key];
  return unit ? `${label} (${unit})` : label;
}

function value(record, key) {
  const raw = record[key];
  return raw === null || raw === undefined ? NaN : raw * run.metrics[key].factor;
}

function amount(record, key) {
  const { unit, proxy } = run.metrics[key];
  const mark = key === "perplexity" && (proxy || record.perplexity_is_proxy) ? " (proxy)" : "";
  return `${number(value(record, key), 4, true)}${unit ? ` ${unit}` : ""}${mark}`;
}

function machine(p) {
  return `${p.dim}×${p.dim} mesh, scratchpad ${bytes(p.scratchpad_bytes)}, ` +
    `accumulator ${bytes(p.accumulator_bytes)}, bus ${p.bus_bytes} B`;
}

function architecture(p) {
  return `${p.layers} layers, d ${p.d_model}, heads ${p.heads.join(" ")}, FFN ${p.d_ff.join(" ")}`;
}

function describe(p) {
  const costs = ["perplexity", "edp_js"].map((k) => `${run.metrics[k].label} ${amount(p, k)}`);
  return `Point ${p.point}: ${costs.join(", ")}; ${architecture(p)}; ${machine(p)}`;
}

function select(point) {
  if (!byPoint.has(point)) return;
  selected = point;
  for (const redraw of redraws) redraw();
}

// Front -------------------------------------------------------------------------------------

/** Points of `front` that no other beats in both axes, from left to right. */
function staircase(front, x, y) {
  const kept = [];
  for (const p of [...front].sort((a, b) => value(a, x) - value(b, x) || value(a, y) - value(b, y))) {
    if (!kept.length || value(p, y) < value(kept[kept.length - 1], y)) kept.push(p);
  }
  return kept;
}

function drawFront() {
  const host = $("front-chart");
  const [xKey, yKey] = [$("x-axis").value, $("y-axis").value];
  const [xLog, yLog] = [$("x-log").checked, $("y-log").checked];
  const cloud = run.cloud[xKey] && run.cloud[yKey] ? [run.cloud[xKey], run.cloud[yKey]] : null;
  const behind = cloud && $("show-cloud").checked;
  const baseline = Number.isFinite(value(run.baseline, xKey)) && Number.isFinite(value(run.baseline, yKey));
  const domain = (key, column, log) => {
    const values = run.front.map((p) => value(p, key));
    if (baseline) values.push(value(run.baseline, key));
    if (behind && !$("zoom").checked) values.push(...column.map((v) => v * run.metrics[key].factor));
    return extent(values, log);
  };
  const vertical = domain(yKey, cloud?.[1], yLog);
  const height = paper ? 275 : host.clientWidth < 500 ? 360 : 460;
  const { root, box, axes } = chart(host, {
    height, role: "group", top: 22, left: margin(scale(vertical, [1, 0], yLog, 7).ticks),
    label: `Pareto front: ${title(yKey)} against ${title(xKey)}; the table below has its numbers`,
  });
  const narrow = box.right - box.left < 400;
  const x = scale(domain(xKey, cloud?.[0], xLog), [box.left, box.right], xLog, narrow ? 4 : 8);
  const y = scale(vertical, [box.bottom, box.top], yLog, 7);
  axes(x, y, title(xKey), title(yKey));
  if (behind) {
    let dots = "";
    for (let i = 0; i < cloud[0].length; i++) {
      const px = x(cloud[0][i] * run.metrics[xKey].factor);
      const py = y(cloud[1][i] * run.metrics[yKey].factor);
      if (px >= box.left && px <= box.right && py >= box.top && py <= box.bottom) {
        dots += `M${px.toFixed(1)} ${py.toFixed(1)}h0`;
      }
    }
    root.append(svg("path", { d: dots, class: "cloud", "aria-hidden": "true" }));
  }
  const at = (p) => [x(value(p, xKey)), y(value(p, yKey))];
  const steps = [];
  for (const p of staircase(run.front, xKey, yKey)) {
    const [px, py] = at(p);
    if (steps.length) steps.push([px, steps[steps.length - 1][1]]);
    steps.push([px, py]);
  }
  root.append(polyline(steps, { class: "front-line", "aria-hidden": "true" }));
  if (baseline) {
    const [px, py] = at(run.baseline);
    root.append(svg("path", { d: `M${px} ${py - 7}l7 7-7 7-7-7z`, class: "baseline" },
      svg("title", {}, `${run.baselineName}: ${amount(run.baseline, xKey)}, ${amount(run.baseline, yKey)}`)));
  }
  drawRange(root, x, y, xKey, yKey);
  drawPoints(host, root, box, at, xKey, yKey);
  drawLabels(root, box, at, baseline);
}

/** The low to high energy tables as a bar through the selected point. */
function drawRange(root, x, y, xKey, yKey) {
  const ends = { edp_js: ["edp_low_js", "edp_high_js"], energy_j: ["energy_low_j", "energy_high_j"] }[yKey];
  const p = byPoint.get(selected);
  if (!ends || !p) return;
  const px = x(value(p, xKey));
  const [low, high] = ends.map((end) => y(p[end] * run.metrics[yKey].factor));
  root.append(svg("line", { x1: px, x2: px, y1: low, y2: Math.max(high, 0), class: "range" },
    svg("title", {}, "range of the energy tables, low to high")));
}

function drawPoints(host, root, box, at, xKey, yKey) {
  const tip = el("div", { class: "tip", hidden: "" });
  host.append(tip);
  const order = [...run.front].sort((a, b) => value(a, xKey) - value(b, xKey));
  const nodes = order.map((p) => {
    const [px, py] = at(p);
    const chosen = p.point === selected;
    return svg("g", {
      class: chosen ? "point selected" : "point", role: "button", "data-point": p.point,
      tabindex: chosen ? 0 : -1, "aria-pressed": chosen, "aria-label": describe(p),
    }, svg("circle", { cx: px, cy: py, r: chosen ? 8 : 5 }));
  });
  root.append(...nodes);
  const nearest = (event) => {
    const frame = root.getBoundingClientRect();
    const zoom = root.viewBox.baseVal.width / frame.width;
    const [mx, my] = [(event.clientX - frame.left) * zoom, (event.clientY - frame.top) * zoom];
    let best = null;
    for (const p of order) {
      const [px, py] = at(p);
      const distance = Math.hypot(px - mx, py - my);
      if (distance < 26 && (!best || distance < best.distance)) best = { p, px, py, distance };
    }
    return best;
  };
  root.addEventListener("pointermove", (event) => {
    const found = nearest(event);
    tip.hidden = !found;
    if (!found) return;
    tip.replaceChildren(...tooltip(found.p, xKey, yKey));
    const zoom = root.getBoundingClientRect().width / root.viewBox.baseVal.width;
    const room = host.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(found.px * zoom + 12, room))}px`;
    tip.style.top = `${Math.max(0, found.py * zoom - tip.offsetHeight - 12)}px`;
    drawCard(found.p);
  });
  root.addEventListener("pointerleave", () => {
    tip.hidden = true;
    drawCard(byPoint.get(selected));
  });
  root.addEventListener("click", (event) => {
    const pressed = event.target.closest?.(".point");
    const found = event.detail === 0 && pressed ? Number(pressed.dataset.point) : nearest(event)?.p.point;
    if (found !== undefined) choose(found);
  });
  const choose = (point) => {
    select(point);
    $("front-chart").querySelector(".point.selected")?.focus({ preventScroll: true });
  };
  root.addEventListener("keydown", (event) => {
    const here = order.findIndex((p) => p.point === selected);
    const last = order.length - 1;
    const next = {
      ArrowRight: Math.min(here + 1, last), ArrowDown: Math.min(here + 1, last),
      ArrowLeft: Math.max(here - 1, 0), ArrowUp: Math.max(here - 1, 0), Home: 0, End: last,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    choose(order[next].point);
  });
}

/** The names of the baseline and of the winners beside their points. */
function drawLabels(root, box, at, baseline) {
  const group = svg("g", { "aria-hidden": "true" });
  root.append(group);
  const names = new Map();
  for (const [role, point] of Object.entries(run.roles)) names.set(point, [...(names.get(point) ?? []), role]);
  const named = [...names].map(([point, roles]) => [roles.join(", "), at(byPoint.get(point))]);
  if (baseline) named.unshift(["baseline", at(run.baseline)]);
  const points = run.front.map(at);
  if (baseline) points.push(at(run.baseline));
  const dots = points.map(([x, y]) => ({ x: x - 6, y: y - 6, width: 12, height: 12 }));
  const written = [];
  for (const [name, place] of named) written.push(label(group, name, place, box, dots, written));
}

const PLACES = [
  [10, -9, "start"], [-10, -9, "end"], [10, 19, "start"], [-10, 19, "end"], [-12, 4, "end"], [12, 4, "start"],
  [0, -16, "middle"], [0, 26, "middle"], [14, -30, "start"], [-14, -30, "end"], [14, 38, "start"], [-14, 38, "end"],
  [30, -50, "start"], [-30, -50, "end"], [30, 58, "start"], [-30, 58, "end"],
];
const NEAR = 28; // pixels from a point to its name without a line between them

function overlap(a, b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** Write a name beside a point, in the box, off what is `written` and off most `dots`; return where. */
function label(group, name, [px, py], box, dots, written) {
  const node = text(px, py, name, { class: "mark" });
  group.append(node);
  const put = ([dx, dy, anchor]) => {
    fill(node, { x: px + dx, y: py + dy, "text-anchor": anchor }, []);
    return node.getBBox();
  };
  let best = { place: PLACES[0], hidden: Infinity };
  for (const place of PLACES) {
    const a = put(place);
    if (a.x < box.left || a.x + a.width > box.right || a.y < 0 || a.y + a.height > box.bottom) continue;
    if (written.some((b) => overlap(a, b))) continue;
    const hidden = dots.filter((b) => overlap(a, b)).length;
    if (hidden < best.hidden) best = { place, hidden };
  }
  const [dx, dy] = best.place;
  if (Math.abs(dy) > NEAR) group.prepend(svg("line", { x1: px, y1: py, x2: px + dx, y2: py + dy - 4, class: "leader" }));
  return put(best.place);
}

function tooltip(p, xKey, yKey) {
  const keys = [...new Set([xKey, yKey, "perplexity", "edp_js"])];
  return [
    el("b", {}, `Point ${p.point}`),
    ...keys.map((key) => el("div", {}, `${run.metrics[key].label} ${amount(p, key).replace(" (proxy)", "")}`)),
    el("div", {}, `${p.layers} layers, d ${p.d_model}, ${p.dim}×${p.dim} mesh`),
  ];
}

// Selected point ------------------------------------------------------------------------------

function drawCard(p) {
  const host = $("card");
  if (!p || host.dataset.shown === `${p.point}`) return;
  host.dataset.shown = p.point;
  const roles = Object.keys(run.roles).filter((role) => run.roles[role] === p.point);
  const facts = el("dl", { class: "facts" });
  const fact = (name, content) => facts.append(el("div", {}, el("dt", {}, name), el("dd", {}, content)));
  for (const key of run.axes) {
    const range = { edp_js: ["edp_low_js", "edp_high_js"], energy_j: ["energy_low_j", "energy_high_j"] }[key];
    const { factor, label } = run.metrics[key];
    const span = range ? ` (${range.map((end) => number(p[end] * factor, 3, true)).join("–")})` : "";
    if (Number.isFinite(value(p, key))) fact(label.replace(" (proxy)", ""), amount(p, key) + span);
  }
  const kibibytes = (n) => `${number(n / 1024)} KiB`;
  const banks = (n) => (n ? ` in ${n} banks` : "");
  fact("Mesh", `${p.dim}×${p.dim} PEs`);
  fact("Scratchpad", `${kibibytes(p.scratchpad_bytes)}${banks(p.scratchpad_banks)}`);
  fact("Accumulator", `${kibibytes(p.accumulator_bytes)}${banks(p.accumulator_banks)}`);
  fact("Bus", `${p.bus_bytes} B a cycle`);
  fact("Clock, node", `${number(p.clock_hz / 1e6)} MHz, ${p.technology_nm} nm`);
  if (p.utilization) fact("Mesh utilization", `${number(100 * p.utilization, 3, true)} %`);
  host.replaceChildren(
    el("h3", {}, `Point ${p.point}`, roles.length ? ` · ${roles.join(", ")}` : ""),
    el("p", { class: "sub" }, `Transformer: ${p.layers} layers of width d = ${p.d_model}`),
    drawArchitecture(p),
    el("p", { class: "sub" }, "Machine and cost (low–high: range of the energy tables)"),
    facts,
  );
}

/** Layers from bottom to top: a square a head, and a bar as long as the FFN is wide. */
function drawArchitecture(p) {
  const [width, row, gap] = [360, 17, 7];
  const { heads, d_ff } = run.limits;
  const [start, room] = [26, 132];
  const square = Math.min(14, room / heads - 1.5);
  const bar = start + room + 34;
  const height = 18 + p.layers * (row + gap);
  const root = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "architecture", role: "img", "aria-label": architecture(p),
  });
  root.append(text(start, 11, "attention heads"), text(bar, 11, "FFN width"));
  p.heads.forEach((count, layer) => {
    const y = 18 + (p.layers - 1 - layer) * (row + gap);
    root.append(text(0, y + 12, `${layer + 1}`));
    for (let head = 0; head < count; head++) {
      root.append(svg("rect", { x: start + head * (square + 1.5), y: y + (row - square) / 2, width: square, height: square, class: "head" }));
    }
    const long = (p.d_ff[layer] / d_ff) * (width - bar - 38);
    root.append(
      text(start + room + 6, y + 12, `${count}`),
      svg("rect", { x: bar, y: y + 2, width: long, height: row - 4, class: "ffn" }),
      text(bar + long + 5, y + 12, `${p.d_ff[layer]}`),
    );
  });
  return root;
}

// Table ---------------------------------------------------------------------------------------

/** Give every cell the name and unit of its column, which a narrow window shows beside it. */
function initStacks() {
  for (const table of document.querySelectorAll("table.stacks")) {
    const headers = table.tHead.rows[table.tHead.rows.length - 1].cells;
    for (const row of table.tBodies[0].rows) {
      [...row.cells].forEach((cell, i) => {
        if (i > 0) cell.dataset.label = headers[i].dataset.name;
        cell.dataset.unit = headers[i].dataset.unit;
      });
    }
  }
}

function initTable() {
  const table = $("front-table");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => Number(row.cells[column].dataset.value);
      const rows = [...body.rows].sort((a, b) => (key(a) - key(b)) * (down ? -1 : 1));
      body.append(...rows);
    });
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) select(Number(row.dataset.point));
  });
  redraws.push(() => {
    for (const row of body.rows) {
      const chosen = Number(row.dataset.point) === selected;
      row.classList.toggle("selected", chosen);
      row.querySelector("button").setAttribute("aria-pressed", chosen);
    }
  });
}

// Convergence ---------------------------------------------------------------------------------

function drawCurves() {
  const host = $("curves");
  if (!host) return;
  const cells = run.curves.map(() => el("div"));
  host.replaceChildren(...cells);
  run.curves.forEach((curve, i) => {
    const label = `${curve.title} against evaluations; its numbers are in the table below`;
    const place = el("div");
    cells[i].append(el("h3", {}, curve.title), place);
    const values = curve.series.flatMap((s) => s.values).filter((v) => v !== null);
    const high = Math.max(...values);
    const log = Math.min(...values) > 0 && high / Math.min(...values) > 10;
    const whole = values.every(Number.isInteger);
    const vertical = whole && !log ? [0, high * 1.08] : extent(values, log);
    const up = (range) => scale(vertical, range, log, 5, whole);
    const { root, box, axes } = chart(place, { height: paper ? 160 : 240, right: 24, left: margin(up([1, 0]).ticks), label });
    const x = scale(extent(curve.x, false, 0.02), [box.left, box.right], false, 4);
    const y = up([box.bottom, box.top]);
    axes(x, y, "candidates evaluated", curve.unit);
    curve.series.forEach((s, k) => {
      const points = s.values.map((v, j) => [v, curve.x[j]]).filter(([v]) => v !== null).map(([v, at]) => [x(at), y(v)]);
      root.append(polyline(points, { class: "curve", style: `stroke:${PARTS[k % 8][0]}`, "stroke-dasharray": ["", "7 3", "2 3"][k % 3] }));
    });
    if (curve.series.length > 1) legend(cells[i], curve.series.map((s, k) => [s.name, PARTS[k % 8][0]]));
  });
}

// Joint search and two stages -------------------------------------------------------------------

function drawTwoStage() {
  const host = $("two-stage-chart");
  const shown = run.twoStage;
  if (!host || !shown) return;
  const place = el("div");
  host.replaceChildren(place);
  const points = shown.series.map((s) => s.points.map(([a, b]) => [a * run.metrics[shown.x].factor, b * run.metrics[shown.y].factor]));
  const all = points.flat();
  const up = (range) => scale(extent(all.map((p) => p[1]), true), range, true);
  const { root, box, axes } = chart(place, {
    height: paper ? 260 : 320, left: margin(up([1, 0]).ticks),
    label: "The fronts of joint search and of two stages; the table below compares them",
  });
  const x = scale(extent(all.map((p) => p[0]), false), [box.left, box.right], false);
  const y = up([box.bottom, box.top]);
  axes(x, y, title(shown.x), title(shown.y));
  points.forEach((series, k) => {
    const drawn = series.map(([a, b]) => [x(a), y(b)]);
    const style = `stroke:${PARTS[k % 8][0]}`;
    if (drawn.length > 1) root.append(polyline(drawn, { class: "curve", style, "stroke-dasharray": ["", "7 3", "2 3"][k % 3] }));
    else for (const [cx, cy] of drawn) root.append(svg("circle", { cx, cy, r: 5, style: `fill:${PARTS[k % 8][0]}` }));
  });
  legend(host, shown.series.map((s, k) => [s.name, PARTS[k % 8][0]]));
}

// Heat maps -----------------------------------------------------------------------------------

/** A machine that the Transformer does not fit has an area, but nothing to compare. */
function cellValue(cell, key) {
  return cell.edp_js === undefined ? NaN : value(cell, key);
}

function drawHeatmaps() {
  const host = $("heatmaps");
  if (!host) return;
  const map = run.heatmaps[Number($("heat-winner").value)];
  const key = $("heat-metric").value;
  const winner = byPoint.get(map.point);
  const finite = map.cells.map((c) => cellValue(c, key)).filter(Number.isFinite);
  let [low, high] = [Infinity, -Infinity];
  for (const v of finite) [low, high] = [Math.min(low, v), Math.max(high, v)];
  const share = (v) => Math.log(v / low) / Math.log(Math.max(high / low, 1.1));
  const panels = [];
  for (const dim of [...new Set(map.cells.map((c) => c.dim))].sort((a, b) => a - b)) {
    panels.push({
      title: `${dim}×${dim} mesh, bus ${winner.bus_bytes} B`, x: "scratchpad_bytes", y: "accumulator_bytes",
      cells: map.cells.filter((c) => c.dim === dim && c.bus_bytes === winner.bus_bytes),
    });
  }
  panels.push({
    title: `scratchpad ${bytes(winner.scratchpad_bytes)}, accumulator ${bytes(winner.accumulator_bytes)}`, x: "bus_bytes", y: "dim",
    cells: map.cells.filter((c) => c.scratchpad_bytes === winner.scratchpad_bytes && c.accumulator_bytes === winner.accumulator_bytes),
  });
  const frames = panels.filter((p) => p.cells.length).map((panel) => [panel, el("div")]);
  host.replaceChildren(...frames.map(([, frame]) => frame));
  for (const [panel, frame] of frames) drawPanel(frame, panel, key, share, winner);
  $("heat-scale").replaceChildren(
    `${number(low, 3, true)} `,
    el("span", { class: "ramp", style: `background:linear-gradient(90deg,${VIRIDIS.map((c) => `rgb(${c})`).join()})` }),
    ` ${number(high, 3, true)} ${run.metrics[key].unit}. Lighter is better. Ring: the machine of point ${map.point}. Dot: the best of the panel. –: does not fit.`,
  );
}

const NAMES = { scratchpad_bytes: "scratchpad (bytes)", accumulator_bytes: "accumulator (bytes)", bus_bytes: "bus (bytes a cycle)", dim: "mesh side (PEs)" };

function drawPanel(frame, panel, key, share, winner) {
  const place = el("div");
  frame.append(el("h3", {}, panel.title), place);
  const values = (name) => [...new Set(panel.cells.map((c) => c[name]))].sort((a, b) => a - b);
  const [xs, ys] = [values(panel.x), values(panel.y)];
  const { root, box, width } = chart(place, {
    height: Math.max(190, 66 + 36 * ys.length), left: 62, top: 6, bottom: 48,
    label: `${title(key)} over ${NAMES[panel.x]} and ${NAMES[panel.y]}, ${panel.title}; the table below has its numbers`,
  });
  const w = Math.min((box.right - box.left) / xs.length, 74);
  const h = (box.bottom - box.top) / ys.length;
  const best = panel.cells.reduce((a, c) => (cellValue(c, key) < (a ? cellValue(a, key) : Infinity) ? c : a), null);
  const rings = [];
  for (const cell of panel.cells) {
    const [cx, cy] = [box.left + xs.indexOf(cell[panel.x]) * w, box.bottom - (ys.indexOf(cell[panel.y]) + 1) * h];
    const v = cellValue(cell, key);
    const fits = Number.isFinite(v);
    const { colour, ink } = fits ? heat(share(v)) : { colour: "var(--empty)", ink: "var(--muted)" };
    root.append(
      svg("rect", { x: cx + 1, y: cy + 1, width: w - 2, height: h - 2, style: `fill:${colour}`, rx: 2 },
        svg("title", {}, `${machine(cell)}: ${fits ? amount(cell, key) : cell.infeasible || "does not fit"}`)),
      text(cx + w / 2, cy + h / 2 + 4, number(v, 3, true), { "text-anchor": "middle", style: `fill:${ink}`, class: "cell" }),
    );
    if (cell === best) root.append(svg("circle", { cx: cx + w - 7, cy: cy + 7, r: 2.5, style: `fill:${ink}` }));
    if (["dim", "scratchpad_bytes", "accumulator_bytes", "bus_bytes"].every((k) => cell[k] === winner[k])) {
      rings.push(svg("rect", { x: cx + 1.5, y: cy + 1.5, width: w - 3, height: h - 3, rx: 2, class: "ring" }));
    }
  }
  root.append(...rings);
  const show = (name, v) => (name.endsWith("pad_bytes") || name.startsWith("acc") ? bytes(v) : `${v}`);
  xs.forEach((v, i) => root.append(text(box.left + (i + 0.5) * w, box.bottom + 15, show(panel.x, v), { "text-anchor": "middle" })));
  ys.forEach((v, i) => root.append(text(box.left - 6, box.bottom - (i + 0.5) * h + 4, show(panel.y, v), { "text-anchor": "end" })));
  const middle = (box.top + box.bottom) / 2;
  root.append(
    text(box.left + (xs.length * w) / 2, box.bottom + 36, NAMES[panel.x], { "text-anchor": "middle", class: "title" }),
    text(13, middle, NAMES[panel.y], { "text-anchor": "middle", class: "title", transform: `rotate(-90 13 ${middle})` }),
  );
}

// Spending ------------------------------------------------------------------------------------

function drawSpending() {
  const host = $("spending");
  if (!host) return;
  const shown = [...new Set([...Object.values(run.roles), selected])];
  const frames = run.spending.map((part) => el("div", {}, el("h3", {}, part.title)));
  host.replaceChildren(...frames);
  run.spending.forEach((part, i) => drawPart(frames[i], part, shown.filter((p) => part.points[p])));
}

/** Stacked bars of one break-down, a bar a point. */
function drawPart(frame, what, shown) {
  const absolute = $("spend-scale").value === "absolute";
  const total = (point) => what.points[point].reduce((a, b) => a + b, 0);
  const most = Math.max(...shown.map(total));
  const place = el("div");
  frame.append(place);
  const names = what.names;
  const [step, thick] = [44, 22];
  const { root, box, width } = chart(place, {
    height: 46 + step * shown.length, left: 8, right: 18, top: 4, bottom: 42,
    label: `${what.title} of ${shown.length} points; the table below has the numbers`,
  });
  const x = scale([0, absolute ? most : 100], [box.left, box.right], false, width < 500 ? 4 : 8);
  for (const tick of x.ticks) {
    root.append(
      svg("line", { x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom, class: "grid" }),
      text(x(tick), box.bottom + 15, number(tick), { "text-anchor": "middle" }),
    );
  }
  root.append(text((box.left + box.right) / 2, box.bottom + 34, absolute ? what.unit : `share of ${what.of} (%)`, { "text-anchor": "middle", class: "title" }));
  shown.forEach((point, i) => {
    const y = box.top + i * step;
    const all = total(point);
    const roles = Object.keys(run.roles).filter((role) => run.roles[role] === point);
    const name = [`Point ${point}`, ...roles, ...(point === selected ? ["selected"] : [])].join(" · ");
    root.append(text(box.left, y + 13, `${name}: ${number(all, 4, true)} ${what.unit}`, { class: point === selected ? "mark" : "on-grid" }));
    let sum = 0;
    what.points[point].forEach((part, k) => {
      const share = all ? (100 * part) / all : 0;
      const [from, to] = [sum, sum + part].map((v) => x(absolute ? v : all ? (100 * v) / all : 0));
      sum += part;
      const [colour, ink] = PARTS[k % 8];
      if (to - from < 0.2) return;
      root.append(svg("rect", { x: from, y: y + 18, width: Math.max(to - from - 1, 0.5), height: thick, style: `fill:${colour}` },
        svg("title", {}, `${names[k]}: ${number(part)} ${what.unit}, ${number(share, 3)} %`)));
      if (to - from > 34) root.append(text((from + to) / 2, y + 33, `${Math.round(share)} %`, { "text-anchor": "middle", style: `fill:${ink}`, class: "cell" }));
    });
  });
  legend(frame, names.map((name, k) => [name, PARTS[k % 8][0]]));
}

// Robustness ----------------------------------------------------------------------------------

function drawRobustness() {
  const host = $("robustness");
  if (!host) return;
  const { tables, lines } = run.robustness;
  const { root, box } = chart(host, {
    height: 70 + (paper ? 11 : 13) * lines.length, left: 44, right: 44, top: 34, bottom: 8,
    label: `Rank of each point by EDP under ${tables.join(", ")} energy; the table below has the numbers`,
  });
  const at = (i) => box.left + (i * (box.right - box.left)) / Math.max(tables.length - 1, 1);
  const y = scale([1, Math.max(lines.length, 2)], [box.top + 6, box.bottom - 6], false);
  tables.forEach((name, i) => root.append(
    svg("line", { x1: at(i), x2: at(i), y1: box.top, y2: box.bottom, class: "grid" }),
    text(at(i), 18, `${name} energy`, { class: "title", "text-anchor": i === 0 ? "start" : i === tables.length - 1 ? "end" : "middle", dx: i === 0 ? -40 : i === tables.length - 1 ? 40 : 0 }),
  ));
  const ordered = [...lines].sort((a, b) => (a.point === selected) - (b.point === selected));
  for (const line of ordered) {
    const moves = new Set(line.ranks).size > 1;
    const chosen = line.point === selected;
    const points = line.ranks.map((rank, i) => [at(i), y(rank)]);
    const classes = ["rank", moves ? "moves" : "", chosen ? "selected" : ""].join(" ");
    const group = svg("g", { class: classes }, polyline(points, {}));
    points.forEach(([px, py], i) => group.append(svg("circle", { cx: px, cy: py, r: chosen ? 5 : 3.5, class: line.onFront[i] ? "kept" : "lost" })));
    group.append(svg("title", {}, `Point ${line.point}: ranks ${line.ranks.join(", ")}`));
    group.addEventListener("click", () => select(line.point));
    group.append(text(at(0) - 9, points[0][1] + 4, `${line.point}`, { "text-anchor": "end" }), text(at(tables.length - 1) + 9, points[points.length - 1][1] + 4, `${line.point}`));
    root.append(group);
  }
}

// Start ---------------------------------------------------------------------------------------

function options(select, keys, chosen) {
  for (const key of keys) select.append(el("option", { value: key, selected: key === chosen }, title(key)));
}

function start() {
  options($("x-axis"), run.axes, run.start[0]);
  options($("y-axis"), run.axes, run.start[1]);
  const spreads = (key) => {
    const values = run.front.map((p) => value(p, key)).filter(Number.isFinite);
    return Math.max(...values) > 4 * Math.min(...values);
  };
  const logs = [["x-axis", "x-log"], ["y-axis", "y-log"]];
  for (const [axis, log] of logs) {
    $(log).checked = spreads($(axis).value);
    $(axis).addEventListener("change", () => { $(log).checked = spreads($(axis).value); drawFront(); });
  }
  for (const id of ["x-log", "y-log", "show-cloud", "zoom"]) $(id).addEventListener("change", drawFront);
  if ($("heatmaps")) {
    run.heatmaps.forEach((map, i) => $("heat-winner").append(el("option", { value: i }, `${map.role}: point ${map.point}`)));
    options($("heat-metric"), run.heatMetrics, run.heatMetrics[0]);
    for (const id of ["heat-winner", "heat-metric"]) $(id).addEventListener("change", drawHeatmaps);
  }
  if ($("spending")) $("spend-scale").addEventListener("change", drawSpending);
  initStacks();
  initTable();
  redraws.push(drawFront, () => drawCard(byPoint.get(selected)), drawSpending, drawRobustness, chooseHeatmap);
  for (const redraw of redraws) redraw();
  drawCurves();
  drawTwoStage();
  drawHeatmaps();
  const drawAll = () => {
    for (const redraw of [drawFront, drawCurves, drawTwoStage, drawHeatmaps, drawSpending, drawRobustness]) redraw();
  };
  for (const [event, printed] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => {
      paper = printed;
      document.documentElement.classList.toggle("paper", printed);
      drawAll();
    });
  }
  let width = document.documentElement.clientWidth;
  window.addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    drawAll();
  });
  document.documentElement.classList.add("ready");
}

/** Where the selected point is a winner, its heat maps are shown. */
function chooseHeatmap() {
  const found = run.heatmaps.findIndex((map) => map.point === selected);
  if (found < 0 || Number($("heat-winner").value) === found) return;
  $("heat-winner").value = found;
  drawHeatmaps();
}

start();

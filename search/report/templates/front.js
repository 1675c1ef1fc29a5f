// The front over two costs: points with their ranges, names that keep apart, and what a point says.

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
    const next = placeAfter(event.key, order);
    if (next === undefined) return;
    event.preventDefault();
    choose(order[next].point);
  });
}

/** The place in `order` that a key goes to from the selected point; undefined for other keys. */
function placeAfter(key, order) {
  const here = order.findIndex((p) => p.point === selected);
  const last = order.length - 1;
  return {
    ArrowRight: Math.min(here + 1, last), ArrowDown: Math.min(here + 1, last),
    ArrowLeft: Math.max(here - 1, 0), ArrowUp: Math.max(here - 1, 0), Home: 0, End: last,
  }[key];
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
    el("div", {}, `{{ network.own_words | safe }}, ${p.dim}×${p.dim} mesh`),
  ];
}

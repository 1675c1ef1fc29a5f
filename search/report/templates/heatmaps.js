// Heat maps: a winner's Transformer on the machines around its own.

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
  const show = (name, v) => (run.memories.some((m) => m.size === name) ? bytes(v) : `${v}`);
  xs.forEach((v, i) => root.append(text(box.left + (i + 0.5) * w, box.bottom + 15, show(panel.x, v), { "text-anchor": "middle" })));
  ys.forEach((v, i) => root.append(text(box.left - 6, box.bottom - (i + 0.5) * h + 4, show(panel.y, v), { "text-anchor": "end" })));
  const middle = (box.top + box.bottom) / 2;
  root.append(
    text(box.left + (xs.length * w) / 2, box.bottom + 36, NAMES[panel.x], { "text-anchor": "middle", class: "title" }),
    text(13, middle, NAMES[panel.y], { "text-anchor": "middle", class: "title", transform: `rotate(-90 13 ${middle})` }),
  );
}

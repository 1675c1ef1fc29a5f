// The selected point: what it costs and is made of, and its Transformer drawn.

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
  for (const { label, size, banks: field } of run.memories) {
    if (p[size]) fact(label[0].toUpperCase() + label.slice(1), `${kibibytes(p[size])}${banks(p[field])}`);
  }
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

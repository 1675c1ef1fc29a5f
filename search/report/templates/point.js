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
{% if network.is_transformer %}
    el("p", { class: "sub" }, `Transformer: ${p.layers} layers of width d = ${p.d_model}`),
    drawArchitecture(p),
{% else %}
    el("p", { class: "sub" }, `Network: ${architecture(p)}`),
{% endif %}
    el("p", { class: "sub" }, "Machine and cost (low–high: range of the energy tables)"),
    facts,
  );
}

{% if network.is_transformer %}
{% include "transformer.js" %}
{% endif %}

"use strict";
// The page: its data, the one selected point that every chart shows, and points in words.

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
  const memories = run.memories.filter((m) => p[m.size]).map((m) => `${m.label} ${bytes(p[m.size])}, `);
  return `${p.dim}×${p.dim} mesh, ${memories.join("")}bus ${p.bus_bytes} B`;
}

function architecture(p) {
  return `{{ network.words | safe }}`;
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

// Ranks by EDP under other energies.

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

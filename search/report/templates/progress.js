// What a search reached: by generation, and beside two stages.

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

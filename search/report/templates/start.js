// The start: controls of each section, and when charts are drawn anew.

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

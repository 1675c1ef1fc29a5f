// What points spend, part by part.

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

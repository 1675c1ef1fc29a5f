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

// Tables: what a narrow window shows beside a cell; columns of the front sort, its rows select.

/** Give every cell the name and unit of its column, which a narrow window shows beside it. */
function initStacks() {
  for (const table of document.querySelectorAll("table.stacks")) {
    const headers = table.tHead.rows[table.tHead.rows.length - 1].cells;
    for (const row of table.tBodies[0].rows) {
      [...row.cells].forEach((cell, i) => {
        if (i > 0) cell.dataset.label = headers[i].dataset.name;
        cell.dataset.unit = headers[i].dataset.unit;
      });
    }
  }
}

function initTable() {
  const table = $("front-table");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => Number(row.cells[column].dataset.value);
      const rows = [...body.rows].sort((a, b) => (key(a) - key(b)) * (down ? -1 : 1));
      body.append(...rows);
    });
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) select(Number(row.dataset.point));
  });
  redraws.push(() => {
    for (const row of body.rows) {
      const chosen = Number(row.dataset.point) === selected;
      row.classList.toggle("selected", chosen);
      row.querySelector("button").setAttribute("aria-pressed", chosen);
    }
  });
}

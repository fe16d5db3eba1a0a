"use strict";
// Tables that can be searched and sorted. Without this script they are tables all the same.
for (const table of document.querySelectorAll("table[data-live]")) {
  const body = table.tBodies[0], rows = [...body.rows];
  const told = document.getElementById(table.dataset.live + "-told");
  const field = document.getElementById(table.dataset.live + "-search");
  const text = rows.map(row => row.textContent.toLowerCase());
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => { row.hidden = !words.every(word => text[i].includes(word)); shown += !row.hidden; });
    told.textContent = shown + " of " + rows.length + " rows";
  };
  field.addEventListener("input", show);
  field.closest(".search").hidden = rows.length < 8;
  show();
  const value = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? (cell.dataset.value === "" ? NaN : Number(cell.dataset.value)) : cell.textContent.trim();
  };
  const compare = (a, b) => typeof a === "number"
    ? (isNaN(a) ? (isNaN(b) ? 0 : 1) : isNaN(b) ? -1 : a - b)
    : a.localeCompare(b, "en", { numeric: true });
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row, i) => [value(row, column), i, row]);
      const known = key => !(typeof key === "number" && isNaN(key));  // what has no number comes last both ways
      keyed.sort(([a, i], [b, j]) => (known(a) && known(b) && down ? -compare(a, b) : compare(a, b)) || i - j);
      body.append(...keyed.map(([, , row]) => row));
    });
  });
}

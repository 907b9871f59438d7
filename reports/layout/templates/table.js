"use strict";
// Headings sort their table. A column of numbers begins with the largest, words with the first.
// What has no number comes last in either direction, and equal rows keep their order.

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const numbers = head.classList.contains("number");
      const first = numbers ? "descending" : "ascending";
      const other = numbers ? "ascending" : "descending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((its) => its.setAttribute("aria-sort", its === head ? direction : "none"));
      body.append(...sorted([...body.rows], column, numbers, direction));
      body.querySelectorAll(".again").forEach((cell) => cell.classList.remove("again"));
    });
  });
}

function sorted(rows, column, numbers, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const words = new Intl.Collator("en", { numeric: true });
  return rows.sort((one, two) => {
    const [a, b] = [one.cells[column], two.cells[column]];
    if (!numbers) return sign * words.compare(a.textContent.trim(), b.textContent.trim());
    const [x, y] = [a.dataset.order, b.dataset.order];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (Number(x) - Number(y));
  });
}

document.querySelectorAll("table").forEach(sortable);

// Sorts and filters the leaderboard; without this script the table is complete, just not interactive.
(() => {
  "use strict";
  const table = document.getElementById("board");
  const controls = document.getElementById("board-controls");
  const state = document.getElementById("board-state");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const names = headers.map((header) => header.textContent.trim());
  const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const filters = ["split", "upstream", "head"].map((key) => [key, document.getElementById("board-" + key)]);
  const text = document.getElementById("board-text");
  let column = 0;
  let descending = false;

  const empty = document.createElement("p");
  empty.className = "board-none";
  empty.textContent = "No entry matches these filters.";
  empty.hidden = true;
  table.after(empty);

  function value(row) {
    const cell = row.cells[column];
    if (headers[column].dataset.kind !== "number") return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  }

  function compare(first, second) {
    const [one, other] = [value(first), value(second)];
    if (one === null || other === null) return (one === null) - (other === null); // missing values stay last
    const order = typeof one === "number" ? one - other : words.compare(one, other);
    return descending ? -order : order;
  }

  function fits(row) {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const content = row.textContent.toLowerCase();
    return filters.every(([key, select]) => !select || !select.value || row.dataset[key] === select.value)
      && wanted.every((word) => content.includes(word));
  }

  function update() {
    const sorted = rows.slice().sort(compare);
    body.append(...sorted);
    let shown = 0;
    for (const row of sorted) {
      row.hidden = !fits(row);
      shown += row.hidden ? 0 : 1;
    }
    headers.forEach((header, index) => {
      if (index === column) header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    });
    empty.hidden = shown > 0;
    table.classList.toggle("one-split", Boolean(filters[0][1] && filters[0][1].value));
    const chosen = filters.filter(([, select]) => select && select.value).map(([key, select]) => key + " " + select.value);
    if (text.value.trim()) chosen.push("“" + text.value.trim() + "”");
    state.textContent = shown + " of " + rows.length + " entries" + (chosen.length ? " (" + chosen.join(", ") + ")" : "")
      + ", sorted by " + names[column] + (descending ? ", descending" : ", ascending");
  }

  headers.forEach((header, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const numbers = header.dataset.kind === "number" && header.dataset.first !== "ascending";
      descending = column === index ? !descending : numbers;
      column = index;
      update();
    });
  });
  controls.addEventListener("input", update);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(() => { // after the form has reset its fields
    for (const [, select] of filters) if (select) select.value = "";
    [column, descending] = [0, false];
    update();
  }));
  controls.hidden = false;
  update();
})();

// Tables whose rows can be sorted by a click on the head of a column. Whatever stands in a cell
// is text: nothing that somebody else chose is ever read as markup. What has not changed is not
// touched, so that it can be selected, and read aloud in peace.

export function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// Have a place hold so many parts, and say what is in each: keep those that are there.
export function fill(place, contents, make, write) {
  while (place.children.length > contents.length) place.lastElementChild.remove();
  contents.forEach((content, index) => write(place.children[index] ?? place.appendChild(make()), content));
}

const MOST = 12;

// most: so many rows are shown until somebody asks for all.
// columns: [{ name, of: (row) => value to sort by, write: (value, row) => text, number, look }]
export class Table {
  constructor(id, columns, { none, sort, descending = false, sortable = true, most = MOST }) {
    this.table = document.getElementById(id);
    this.none = none;
    this.descending = descending;
    this.sortable = sortable;
    this.rows = [];
    this.most = most;
    this.whole = false;
    this.more = document.createElement("button");
    this.more.type = "button";
    this.more.className = "more";
    this.more.addEventListener("click", () => {
      this.whole = !this.whole;
      this.draw();
    });
    this.table.after(this.more);
    this.change(columns, sort);
  }

  change(columns, sort) {
    this.columns = columns;
    this.sort = sort === undefined ? undefined : columns.find((column) => column.name === sort);
    this.head = document.createElement("thead");
    const row = this.head.insertRow();
    for (const column of columns) row.append(this.headCell(column));
    this.body = document.createElement("tbody");
    this.table.replaceChildren(this.head, this.body);
    this.mark();
  }

  headCell(column) {
    const cell = document.createElement("th");
    cell.scope = "col";
    if (column.number) cell.className = "number";
    if (!this.sortable) {
      cell.textContent = column.name;
      return cell;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.name;
    button.addEventListener("click", () => this.sortBy(column));
    cell.append(button);
    return cell;
  }

  sortBy(column) {
    this.descending = this.sort === column ? !this.descending : Boolean(column.number);
    this.sort = column;
    this.mark();
    this.draw();
  }

  mark() {
    [...this.head.rows[0].cells].forEach((cell, index) => {
      if (this.columns[index] === this.sort) {
        cell.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      } else cell.removeAttribute("aria-sort");
    });
  }

  show(rows) {
    this.rows = rows;
    this.draw();
  }

  draw() {
    const rows = [...this.rows];
    const { sort } = this;
    if (sort) {
      const sign = this.descending ? -1 : 1;
      rows.sort((one, other) => sign * compare(sort.of(one), sort.of(other)));
    }
    if (this.body.querySelector(".none")) this.body.replaceChildren();
    this.more.hidden = rows.length <= this.most;
    say(this.more, this.whole ? "Show fewer" : `Show all ${rows.length}`);
    fill(this.body, this.whole ? rows : rows.slice(0, this.most), () => document.createElement("tr"),
      (row, content) => this.write(row, content));
    if (!rows.length) this.sayNone();
  }

  write(row, content) {
    fill(row, this.columns, () => document.createElement("td"), (cell, column) => {
      const value = column.of(content);
      const text = column.write ? column.write(value, content) : String(value ?? "");
      say(cell, text);
      cell.className = (column.number ? "number" : "text") + (column.look ? ` ${column.look(content)}` : "");
      cell.dataset.label = column.name;
      cell.title = text.length > 30 ? text : "";
    });
  }

  sayNone() {
    const cell = this.body.insertRow().insertCell();
    cell.colSpan = this.columns.length;
    cell.className = "none";
    cell.textContent = this.none;
  }
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one ?? "").localeCompare(String(other ?? ""), undefined, { numeric: true });
}

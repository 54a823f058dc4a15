// The record browser: filters, sorts and pages the rows. Texts reach the page through textContent, never as HTML.
"use strict";
const PAGE_ROWS = 50, SNIPPET_CHARS = 180;
const CHOICES = ["task", "dataset", "aspect", "system"];
const $ = (id) => document.getElementById(id);
const make = (tag, text, kind) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
// A name or text of the data in an element of its own: marks of writing direction in it end with it.
const told = (tag, text, kind) => {
  const made = make(tag, undefined, kind);
  made.append(make("bdi", text));
  return made;
};

let data = null;         // see evaluation/reporting/record_data.py
let lowered = null;      // data.texts in lower case, made once
let columns = [];        // of the table
let measures = [];       // id, name, and row -> disagreement as a share of the scale, null: unknown
let found = [];          // the rows that pass the filters, in their order
let page = 0;
let order = { id: "", isDown: true }; // by which column
const opened = new Set(); // keys of the open rows

const text = (column, row) => data.texts[data.columns[column][row]];
const key = (row) => JSON.stringify([text("id", row), text("aspect", row)]);
// + 0: no "-.00"
const figure = (value, digits = 2) => value === null ? "–" : (Number(value.toFixed(digits)) + 0).toFixed(digits).replace(/^(-?)0\./, "$1.");
// Decimals of a score: two, and more where the scale is no wider than a point.
const digitsOf = (row) => Math.min(6, Math.max(2, 3 - Math.ceil(Math.log10(data.numbers.high[row] - data.numbers.low[row]))));
const counted = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
const scoreOf = (judge, row) => judge.numbers.score[row];
const share = (a, b, row) => a === null || b === null ? null : Math.abs(a - b) / (data.numbers.high[row] - data.numbers.low[row]);

const measuresOf = () => {
  const made = [], voices = data.judges.filter((judge) => !judge.is_feature && !judge.is_panel);
  if (voices.length > 1) made.push({ id: "judges", name: "between judges", of: (row) => {
    const known = voices.map((judge) => scoreOf(judge, row)).filter((score) => score !== null);
    return known.length < 2 ? null : share(Math.max(...known), Math.min(...known), row);
  } });
  if (!data.numbers.label.some((label) => label !== null)) return made;
  for (const judge of [...data.judges].reverse()) {
    const of = (row) => share(scoreOf(judge, row), data.numbers.label[row], row);
    made.push({ id: `label:${judge.name}`, name: `${judge.name} and ${data.label}`, of });
  }
  return made;
};
const measure = () => measures.find(({ id }) => id === $("measure").value);

const columnsOf = () => {
  const varies = (name) => new Set(data.columns[name]).size > 1;
  const isThere = (name) => data.columns[name].some((index) => index !== 0);
  const names = [...["task", "dataset", "aspect"].filter(varies), ...["system", "group"].filter(isThere), "candidate"];
  const made = names.map((name) => ({ id: `text:${name}`, name, column: name })); // a judge may have such a name too
  if (data.numbers.label.some((label) => label !== null)) made.push({ id: "label", name: data.label, number: (row) => data.numbers.label[row] });
  for (const judge of data.judges) {
    const missing = (row) => whyMissing(judge, row);
    made.push({ id: `judge:${judge.name}`, name: judge.title, number: (row) => scoreOf(judge, row), missing });
  }
  if (measure()) made.push({ id: "disagreement", name: "disagreement", number: measure().of, digits: 2 });
  return made;
};

const whyMissing = (judge, row) => {
  const code = data.texts[judge.columns.unscored[row]];
  return code ? `${data.reasons[code] ?? "no score"} (${code})` : "not judged yet";
};

// Filters

const searched = () => [
  data.columns.id, data.columns.group, data.columns.system, data.columns.source, data.columns.candidate,
  ...data.judges.flatMap((judge) => [judge.columns.reason, judge.columns.unscored]),
];
const inLowerCase = () => lowered ??= data.texts.map((one) => one.toLowerCase());

const tests = () => {
  const made = [];
  for (const name of CHOICES) {
    if (!$(name).value) continue;
    const wanted = data.texts.indexOf($(name).value.slice(1)), column = data.columns[name];
    made.push((row) => column[row] === wanted);
  }
  const scored = $("scored").value, apart = measure()?.of, least = Number($("least").value);
  if (scored) made.push((row) => data.judges.some((judge) => scoreOf(judge, row) === null) === (scored === "missing"));
  if (apart && least) made.push((row) => apart(row) >= least - 1e-9);
  const query = $("search").value.toLowerCase();
  if (query) {
    const hits = inLowerCase().map((one) => one.includes(query)), places = searched(), more = data.columns.fields;
    made.push((row) => {
      for (const column of places) if (hits[column[row]]) return true;
      return more?.[row].some((index) => hits[index]);
    });
  }
  return made;
};

const inWords = () => {
  const said = [...CHOICES, "scored"].filter((id) => $(id).value).map((id) => `${$(id).parentElement.firstChild.textContent}: ${$(id).selectedOptions[0].textContent}`);
  if ($("search").value) said.push(`with “${$("search").value}”`);
  if (measure() && Number($("least").value)) said.push(`disagreement ${measure().name}: at least ${$("least-shown").value} of the scale`);
  const column = columns.find(({ id }) => id === order.id);
  if (column) said.push(`sorted by ${column.name}${order.isDown ? ", the largest first" : ""}`);
  return said;
};

const sorted = (rows) => {
  const column = columns.find(({ id }) => id === order.id);
  if (!column) return rows;
  const sign = order.isDown ? -1 : 1;
  const rank = column.number ? null : ranks(data.columns[column.column]);
  const value = (row) => rank ? rank.get(data.columns[column.column][row]) : column.number(row);
  const values = new Map(rows.map((row) => [row, value(row)]));
  return rows.sort((a, b) => {
    const x = values.get(a), y = values.get(b);
    if (x === null || y === null) return (x === null) - (y === null) || a - b; // without a number: last, up or down
    return sign * (x - y) || a - b;
  });
};
const collator = new Intl.Collator(undefined, { numeric: true });
const ranks = (indices) => {
  const distinct = [...new Set(indices)].map((index) => [index, data.texts[index].slice(0, 80)]);
  distinct.sort((a, b) => collator.compare(a[1], b[1]));
  return new Map(distinct.map(([index], place) => [index, place]));
};

const update = (keepsPage = false) => {
  columns = columnsOf();
  const passes = tests(), rows = [];
  for (let row = 0; row < data.num_rows; row++) if (passes.every((test) => test(row))) rows.push(row);
  found = sorted(rows);
  page = keepsPage ? Math.min(page, Math.max(0, Math.ceil(found.length / PAGE_ROWS) - 1)) : 0;
  $("least-shown").value = figure(Number($("least").value));
  render();
};

// The table

const render = () => {
  const first = page * PAGE_ROWS, rows = found.slice(first, first + PAGE_ROWS);
  keepingFocus(() => {
    $("records").tHead.replaceChildren(head());
    $("records").tBodies[0].replaceChildren(...rows.flatMap((row) => opened.has(key(row)) ? [line(row), detail(row)] : [line(row)]));
  });
  const some = data.num_rows === found.length ? "" : `${found.length.toLocaleString("en")} of `;
  $("status").textContent = `${some}${counted(data.num_rows, "row")} (record and aspect). ${data.note}`.trim();
  const range = found.length ? `${first + 1} to ${first + rows.length}` : "";
  $("pages").textContent = range;
  $("printed").textContent = [range ? `Printed: rows ${range}` : "Printed: no rows", ...inWords()].join("; ");
  $("back").disabled = page === 0;
  $("next").disabled = first + PAGE_ROWS >= found.length;
};

// The focus stays on the button of the same row or column when a change replaces it.
const keepingFocus = (change) => {
  const at = document.activeElement, row = at?.closest("tr.row")?.dataset.key, column = at?.dataset?.column;
  change();
  const now = row !== undefined
    ? [...$("records").tBodies[0].rows].find((one) => one.dataset.key === row)?.querySelector(".toggle")
    : column !== undefined && [...$("records").tHead.querySelectorAll("button")].find((one) => one.dataset.column === column);
  if (now) now.focus({ preventScroll: true });
};

const head = () => {
  const made = make("tr");
  for (const column of columns) {
    const isOrder = column.id === order.id, cell = make("th", undefined, column.number ? "number" : "");
    const button = told("button", column.name);
    button.append(isOrder ? (order.isDown ? " ↓" : " ↑") : "");
    button.type = "button";
    button.dataset.column = column.id;
    cell.ariaSort = isOrder ? (order.isDown ? "descending" : "ascending") : "none";
    cell.append(button);
    made.append(cell);
  }
  return made;
};

const line = (row) => {
  const isOpen = opened.has(key(row)), made = make("tr", undefined, isOpen ? "row is-open" : "row");
  [made.dataset.row, made.dataset.key] = [row, key(row)];
  for (const [place, column] of columns.entries()) {
    const cell = column.number ? numberCell(column, row) : told("td", snippet(text(column.column, row)), column.column);
    if (place === 0) {
      const button = make("button", isOpen ? "▾" : "▸", "toggle");
      button.type = "button";
      button.ariaExpanded = String(isOpen);
      button.ariaLabel = "texts and reasons";
      cell.prepend(button, "\u00a0");
    }
    made.append(cell);
  }
  return made;
};
const snippet = (whole) => whole.length > SNIPPET_CHARS ? `${whole.slice(0, SNIPPET_CHARS)}…` : whole;
const numberCell = (column, row) => {
  const value = column.number(row), digits = column.digits ?? digitsOf(row), cell = make("td", figure(value, digits), value === null ? "number none" : "number");
  if (value === null && column.missing) cell.title = column.missing(row);
  return cell;
};

const detail = (row) => {
  const made = make("tr"), cell = make("td", undefined, "detail"), texts = make("div", undefined, "texts");
  cell.colSpan = columns.length;
  const names = ["id", "group", "system", "dataset", "task", "aspect"].filter((name) => text(name, row));
  const scale = `scale ${data.numbers.low[row]} to ${data.numbers.high[row]}`;
  const about = make("p", undefined, "meta");
  for (const name of names) about.append(`${name} `, make("bdi", text(name, row)), " · ");
  about.append(scale);
  cell.append(about);
  const given = [["source", text("source", row)], ["candidate", text("candidate", row)]], more = data.columns.fields?.[row] ?? [];
  for (let place = 0; place < more.length; place += 2) given.push([data.texts[more[place]], data.texts[more[place + 1]]]);
  for (const [name, content] of given) {
    const one = make("section"), body = make("pre", content);
    body.dir = "auto";
    one.append(told("h4", name), body);
    texts.append(one);
  }
  cell.append(texts, judgesTable(row));
  made.append(cell);
  return made;
};

const judgesTable = (row) => {
  const table = make("table"), add = (tag, ...cells) => {
    const made = make("tr");
    for (const [content, kind] of cells) made.append(told(tag, content, kind));
    table.append(made);
    return made;
  };
  add("th", ["judge"], ["score", "number"], ["reason"], ["more"]);
  const label = data.numbers.label[row], ratings = text("ratings", row), digits = digitsOf(row);
  if (label !== null) add("td", [data.label], [figure(label, digits), "number"], ["", "reason"], [ratings ? `single ratings: ${ratings}` : ""]);
  for (const judge of data.judges) {
    const score = scoreOf(judge, row);
    const why = score === null ? whyMissing(judge, row) : data.texts[judge.columns.reason[row]];
    const made = add("td", [judge.title], [figure(score, digits), score === null ? "number none" : "number"], [why, score === null ? "reason none" : "reason"], [moreOf(judge, row)]);
    const thought = judge.columns.reasoning ? data.texts[judge.columns.reasoning[row]] : "";
    if (thought) made.cells[2].append(folded("thinking", thought));
  }
  return table;
};
const folded = (title, content) => {
  const made = make("details"), body = make("pre", content);
  body.dir = "auto";
  made.append(make("summary", title), body);
  return made;
};
const moreOf = (judge, row) => {
  const { low, high, novelty, label_mass: mass, num_votes: votes, vote } = Object.fromEntries(Object.entries(judge.numbers).map(([name, values]) => [name, values[row]]));
  const digits = digitsOf(row), said = [], fallback = judge.columns.fallback ? data.texts[judge.columns.fallback[row]] : "";
  if (low !== undefined && low !== null) said.push(`interval ${figure(low, digits)} to ${figure(high, digits)}`);
  if (novelty !== undefined && novelty !== null) said.push(`novelty ${figure(novelty)}`);
  if (mass !== undefined && mass !== null) said.push(`label mass ${figure(mass)}`);
  if (votes !== undefined && votes !== null) said.push(counted(votes, "vote"));
  if (vote !== undefined && vote !== null) said.push(`vote alone ${figure(vote, digits)}`);
  if (fallback) said.push(`integrating model failed: ${fallback}`);
  return said.join(" · ");
};

// Events

const fill = (select, options, value) => {
  const before = [...select.options].map((one) => [one.value, one.textContent]);
  if (JSON.stringify(before) !== JSON.stringify(options)) select.replaceChildren(...options.map(([given, name]) => {
    const made = make("option", name);
    made.value = given;
    return made;
  }));
  select.value = options.some(([given]) => given === value) ? value : options[0]?.[0] ?? "";
  select.parentElement.hidden = options.length < 2;
};
const load = (arrived) => {
  [data, lowered] = [arrived, null];
  for (const name of CHOICES) {
    // By text: its place changes with new rows. With "=" in front, since none of a name is a choice too.
    const distinct = [...new Set(data.columns[name])].map((place) => data.texts[place]).sort(collator.compare);
    const options = distinct.map((one) => [`=${one}`, one || "(none)"]);
    fill($(name), options.length > 1 ? [["", "all"], ...options] : [], $(name).value);
  }
  measures = measuresOf();
  fill($("measure"), measures.map(({ id, name }) => [id, name]), $("measure").value);
  $("least").parentElement.hidden = !measures.length;
  $("filters").hidden = document.querySelector("nav").hidden = false;
  update(true);
  (window.requestIdleCallback ?? setTimeout)(inLowerCase);
};
const turn = (by) => {
  page += by;
  render();
  $("records").scrollIntoView();
};
$("filters").addEventListener("input", () => data && update());
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("back").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("records").tHead.addEventListener("click", (event) => {
  const id = event.target.closest("button")?.dataset.column;
  if (!id) return;
  if (order.id !== id) order = { id, isDown: Boolean(columns.find((one) => one.id === id).number) };
  else order = { id, isDown: !order.isDown };
  update();
});
$("records").tBodies[0].addEventListener("click", (event) => {
  const at = event.target.closest("tr.row");
  if (!at || (String(getSelection()) && !event.target.closest(".toggle"))) return;
  const row = Number(at.dataset.row), isOpen = opened.has(key(row));
  if (isOpen) opened.delete(key(row)); else opened.add(key(row));
  if (isOpen) at.nextSibling.remove(); else at.after(detail(row));
  keepingFocus(() => at.replaceWith(line(row)));
});

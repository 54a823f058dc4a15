// The record browser: filters, sorts and pages the rows. Texts reach the page through textContent, never as HTML.
"use strict";
const PAGE_ROWS = 50, SNIPPET_CHARS = 180, SECONDS_BETWEEN_POLLS = 2;
const CHOICES = ["task", "dataset", "aspect", "system"];
const $ = (id) => document.getElementById(id);
const make = (tag, text, kind) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

let data = null;         // see evaluation/reporting/record_data.py
let lowered = null;      // data.texts in lower case, made once
let columns = [];        // of the table
let measures = {};       // name -> row -> disagreement as a share of the scale, null: unknown
let found = [];          // the rows that pass the filters, in their order
let page = 0;
let order = { name: "", isDown: true };
const opened = new Set(); // keys of the open rows

const text = (column, row) => data.texts[data.columns[column][row]];
const key = (row) => JSON.stringify([text("id", row), text("aspect", row)]);
const figure = (value) => value === null ? "–" : value.toFixed(2).replace(/^(-?)0\./, "$1.");
const scoreOf = (judge, row) => judge.numbers.score[row];
const share = (a, b, row) => a === null || b === null ? null : Math.abs(a - b) / (data.numbers.high[row] - data.numbers.low[row]);

const measuresOf = () => {
  const made = {}, voices = data.judges.filter((judge) => !judge.is_feature && !judge.is_panel);
  if (voices.length > 1) made["between judges"] = (row) => {
    const known = voices.map((judge) => scoreOf(judge, row)).filter((score) => score !== null);
    return known.length < 2 ? null : share(Math.max(...known), Math.min(...known), row);
  };
  if (!data.numbers.label.some((label) => label !== null)) return made;
  for (const judge of [...data.judges].reverse()) {
    made[`${judge.name} and ${data.label}`] = (row) => share(scoreOf(judge, row), data.numbers.label[row], row);
  }
  return made;
};

const columnsOf = () => {
  const varies = (name) => new Set(data.columns[name]).size > 1;
  const made = ["task", "dataset", "aspect"].filter(varies).map((name) => ({ name, column: name }));
  made.push(...["system", "group"].filter((name) => data.columns[name].some((index) => index !== 0)).map((name) => ({ name, column: name })));
  made.push({ name: "candidate", column: "candidate" });
  if (data.numbers.label.some((label) => label !== null)) made.push({ name: data.label, number: (row) => data.numbers.label[row] });
  for (const judge of data.judges) {
    const missing = (row) => reasonless(judge, row);
    made.push({ name: judge.title, number: (row) => scoreOf(judge, row), missing });
  }
  if ($("measure").value) made.push({ name: "disagreement", number: measures[$("measure").value] });
  return made;
};

const reasonless = (judge, row) => {
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
    const wanted = Number($(name).value), column = data.columns[name];
    made.push((row) => column[row] === wanted);
  }
  const scored = $("scored").value, measure = measures[$("measure").value], least = Number($("least").value);
  if (scored) made.push((row) => data.judges.some((judge) => scoreOf(judge, row) === null) === (scored === "missing"));
  if (measure && least) made.push((row) => measure(row) >= least - 1e-9);
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

const sorted = (rows) => {
  const column = columns.find((one) => one.name === order.name);
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
  for (let row = 0; row < data.shown; row++) if (passes.every((test) => test(row))) rows.push(row);
  found = sorted(rows);
  page = keepsPage ? Math.min(page, Math.max(0, Math.ceil(found.length / PAGE_ROWS) - 1)) : 0;
  $("least-shown").value = figure(Number($("least").value));
  render();
};

// The table

const render = () => {
  const first = page * PAGE_ROWS, rows = found.slice(first, first + PAGE_ROWS);
  $("records").tHead.replaceChildren(head());
  $("records").tBodies[0].replaceChildren(...rows.flatMap((row) => opened.has(key(row)) ? [line(row), detail(row)] : [line(row)]));
  const all = data.shown === found.length ? "" : ` of ${data.shown.toLocaleString("en")}`;
  $("status").textContent = `${found.length.toLocaleString("en")}${all} rows (record and aspect). ${data.note}`.trim();
  $("pages").textContent = found.length ? `${first + 1} to ${first + rows.length}` : "";
  $("back").disabled = page === 0;
  $("next").disabled = first + PAGE_ROWS >= found.length;
};

const head = () => {
  const made = make("tr");
  for (const column of columns) {
    const isOrder = column.name === order.name, cell = make("th", undefined, column.number ? "number" : "");
    const button = make("button", column.name + (isOrder ? (order.isDown ? " ↓" : " ↑") : ""));
    button.type = "button";
    button.dataset.name = column.name;
    cell.ariaSort = isOrder ? (order.isDown ? "descending" : "ascending") : "none";
    cell.append(button);
    made.append(cell);
  }
  return made;
};

const line = (row) => {
  const isOpen = opened.has(key(row)), made = make("tr", undefined, isOpen ? "row is-open" : "row");
  made.dataset.row = row;
  for (const [place, column] of columns.entries()) {
    const cell = column.number ? numberCell(column, row) : make("td", snippet(text(column.column, row)), column.column);
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
  const value = column.number(row), cell = make("td", figure(value), value === null ? "number none" : "number");
  if (value === null && column.missing) cell.title = column.missing(row);
  return cell;
};

const detail = (row) => {
  const made = make("tr"), cell = make("td", undefined, "detail"), texts = make("div", undefined, "texts");
  cell.colSpan = columns.length;
  const names = ["id", "group", "system", "dataset", "task", "aspect"].filter((name) => text(name, row));
  const scale = `scale ${data.numbers.low[row]} to ${data.numbers.high[row]}`;
  cell.append(make("p", [...names.map((name) => `${name} ${text(name, row)}`), scale].join(" · "), "meta"));
  const given = [["source", text("source", row)], ["candidate", text("candidate", row)]], more = data.columns.fields?.[row] ?? [];
  for (let place = 0; place < more.length; place += 2) given.push([data.texts[more[place]], data.texts[more[place + 1]]]);
  for (const [name, content] of given) {
    const one = make("section"), body = make("pre", content);
    body.dir = "auto";
    one.append(make("h4", name), body);
    texts.append(one);
  }
  cell.append(texts, judgesTable(row));
  made.append(cell);
  return made;
};

const judgesTable = (row) => {
  const table = make("table"), add = (tag, ...cells) => {
    const made = make("tr");
    for (const [content, kind] of cells) made.append(make(tag, content, kind));
    table.append(made);
  };
  add("th", ["judge"], ["score", "number"], ["reason"], ["more"]);
  const label = data.numbers.label[row], ratings = text("ratings", row);
  if (label !== null) add("td", [data.label], [figure(label), "number"], ["", "reason"], [ratings ? `single ratings: ${ratings}` : ""]);
  for (const judge of data.judges) {
    const score = scoreOf(judge, row);
    const why = score === null ? reasonless(judge, row) : data.texts[judge.columns.reason[row]];
    add("td", [judge.title], [figure(score), score === null ? "number none" : "number"], [why, score === null ? "reason none" : "reason"], [moreOf(judge, row)]);
  }
  return table;
};
const moreOf = (judge, row) => {
  const { low, high, novelty, label_mass: mass, num_votes: votes, vote } = Object.fromEntries(Object.entries(judge.numbers).map(([name, values]) => [name, values[row]]));
  const said = [], fallback = judge.columns.fallback ? data.texts[judge.columns.fallback[row]] : "";
  if (low !== undefined && low !== null) said.push(`interval ${figure(low)} to ${figure(high)}`);
  if (novelty !== undefined && novelty !== null) said.push(`novelty ${figure(novelty)}`);
  if (mass !== undefined && mass !== null) said.push(`label mass ${figure(mass)}`);
  if (votes !== undefined && votes !== null) said.push(votes === 1 ? "1 vote" : `${votes} votes`);
  if (vote !== undefined && vote !== null) said.push(`vote alone ${figure(vote)}`);
  if (fallback) said.push(`integrating model failed: ${fallback}`);
  return said.join(" · ");
};

// Events

const fill = (select, options, value) => {
  select.replaceChildren(...options.map(([given, name]) => {
    const made = make("option", name);
    made.value = given;
    return made;
  }));
  select.value = value;
  select.parentElement.hidden = options.length < 2;
};
const load = (arrived) => {
  // The places of texts change with new rows; what a filter was set to does not.
  const chosen = CHOICES.map((name) => data && $(name).value ? data.texts[$(name).value] : null);
  [data, lowered] = [arrived, null];
  for (const [at, name] of CHOICES.entries()) {
    const distinct = [...new Set(data.columns[name])].map((place) => [place, data.texts[place] || "(none)"]);
    distinct.sort((a, b) => collator.compare(a[1], b[1]));
    const same = distinct.find(([place]) => data.texts[place] === chosen[at]);
    fill($(name), distinct.length > 1 ? [["", "all"], ...distinct] : [], same ? same[0] : "");
  }
  measures = measuresOf();
  const known = Object.keys(measures), before = $("measure").value;
  fill($("measure"), known.map((name) => [name, name]), known.includes(before) ? before : known[0]);
  $("least").parentElement.hidden = !known.length;
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
  const name = event.target.closest("button")?.dataset.name;
  if (!name) return;
  if (order.name !== name) order = { name, isDown: Boolean(columns.find((one) => one.name === name).number) };
  else order = { name, isDown: !order.isDown };
  update();
  [...$("records").tHead.querySelectorAll("button")].find((one) => one.dataset.name === name)?.focus();
});
$("records").tBodies[0].addEventListener("click", (event) => {
  const at = event.target.closest("tr.row");
  if (!at || String(getSelection())) return;
  const row = Number(at.dataset.row), isOpen = opened.has(key(row)), hadFocus = at.contains(document.activeElement);
  if (isOpen) opened.delete(key(row)); else opened.add(key(row));
  if (isOpen) at.nextSibling.remove(); else at.after(detail(row));
  const now = line(row);
  at.replaceWith(now);
  if (hadFocus) now.querySelector(".toggle").focus();
});

// Where the rows come from: this file, or `inverdict view`

const unpacked = async (base64) => {
  const binary = atob(base64), bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place++) bytes[place] = binary.charCodeAt(place);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
};
const showProgress = (state) => {
  const made = [], jobs = make("ul", undefined, "jobs");
  for (const { job, state: word } of state.jobs) jobs.append(make("li", `${job}: ${word}`));
  if (state.has_report) {
    const link = make("a", "report"), place = make("p");
    link.href = "report.html";
    place.append(link);
    made.push(place);
  }
  made.push(jobs, ...state.problems.map((problem) => make("p", problem, "note")));
  if (!state.has_report) made.push(...state.judges.map(({ judge, done, of }) => {
    const place = make("p"), bar = make("progress");
    if (of !== null) [bar.max, bar.value] = [of || 1, done];
    place.append(bar, ` ${judge}: ${done.toLocaleString("en")}${of === null ? "" : ` of ${of.toLocaleString("en")}`} verdicts`);
    return place;
  }));
  $("progress").replaceChildren(...made);
};
// The content of an address. Throws an error with a sentence where there is a problem.
const fetched = async (address) => {
  const answer = await fetch(address).catch(() => {
    throw new Error("`inverdict view` has stopped; this page shows what it had.");
  });
  const content = await answer.text();
  if (!answer.ok) throw new Error(content);
  return JSON.parse(content);
};
const follow = async () => {
  let version = null, hadReport = true; // at first: only a report that comes later is gone to
  for (;;) {
    try {
      const state = await fetched("state");
      if (state.has_report && !hadReport) return location.assign("report.html");
      hadReport = state.has_report;
      showProgress(state);
      if (state.version !== version && !String(getSelection())) {
        load(await fetched("rows"));
        version = state.version;
      }
      $("trouble").hidden = true;
    } catch (error) {
      $("trouble").textContent = error.message;
      $("trouble").hidden = false;
    }
    await new Promise((done) => setTimeout(done, 1000 * SECONDS_BETWEEN_POLLS));
  }
};
if (!$("data")) follow();
else unpacked($("data").textContent).then(load, (error) => {
  $("status").textContent = `The rows of this page cannot be read (${error}). A browser of 2023 or later is needed.`;
});

"use strict";
// Texts are other people's: they reach the page through textContent alone.

const $ = (id) => document.getElementById(id);
const AHEAD = 60; // rows kept ready, so that the next one is there at once
const FETCHED = 100;
const FREE_KEYS = [..."123456789abcdfghijklmnopqrstvwyz"]; // e, u and x do something else
const KEY_NAME = "review-key";

const state = {
  task: null,
  order: "best",
  rows: [], // a run of rows in the order, decided ones among them
  at: 0,
  isWhole: false, // no more rows after the last
  loading: false,
  run: 0, // counts starts in an order: an answer to an earlier one is dropped
  history: [], // keys of decisions that undo takes back, newest last
  byKey: new Map(), // decisions of this page by key
  outbox: [], // decisions the server has not confirmed
  sending: false,
  most: FETCHED, // decisions in one request
  failures: 0,
};

// Asking the server

async function ask(path, body) {
  const headers = { "x-review-key": localStorage.getItem(KEY_NAME) || "" };
  const options = { headers, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    headers["content-type"] = "application/json";
  }
  const reply = await fetch(path, options);
  const said = await reply.json();
  if (!reply.ok) {
    const error = new Error(said.error ? said.error.message : `the server answered ${reply.status}`);
    error.status = reply.status;
    throw error;
  }
  return said;
}

async function enter() {
  const token = location.hash.slice(1);
  if (!token) return;
  history.replaceState(null, "", location.pathname); // it was for one use
  try {
    localStorage.setItem(KEY_NAME, (await ask("/api/session", { token })).key);
  } catch (error) {
    if (!localStorage.getItem(KEY_NAME)) throw error;
  }
}

// What survives a closed page

const stored = (name) => `review:${state.task.name}:${name}`;

function remember(decision) {
  localStorage.setItem(stored(`out:${decision.key}`), JSON.stringify(decision));
}

function recall() {
  const prefix = stored("out:");
  const found = Object.keys(localStorage).filter((name) => name.startsWith(prefix));
  const read = found.map((name) => JSON.parse(localStorage.getItem(name)));
  return read.sort((one, other) => one.time - other.time);
}

function rememberPlace() {
  const row = state.rows[state.at];
  if (row) localStorage.setItem(stored("place"), JSON.stringify({ order: state.order, id: row.id }));
}

// Saving

async function flush() {
  if (state.sending || !state.outbox.length) return;
  state.sending = true;
  showSaved();
  const batch = state.outbox.slice(0, state.most);
  try {
    const decisions = batch.map(({ key, id, action, label, text, of }) => ({ key, id, action, label, text, of }));
    const said = await ask("/api/decisions", { decisions });
    confirmed(batch, said);
    state.most = FETCHED;
    state.failures = 0;
    state.sending = false;
    showSaved();
    flush();
  } catch (error) {
    state.sending = false;
    state.failures += 1;
    if ([400, 413, 422].includes(error.status)) {
      // One that the server cannot read must not keep the others from being saved: halve until it is alone.
      state.failures = 0;
      state.most = Math.ceil(batch.length / 2);
      if (batch.length === 1) confirmed(batch, { refused: { [batch[0].key]: error.message } });
    }
    showSaved(error);
    setTimeout(flush, Math.min(5000, 250 * 2 ** Math.min(state.failures, 5)));
  }
}

function confirmed(batch, said) {
  const done = new Set(batch.map((one) => one.key));
  state.outbox = state.outbox.filter((one) => !done.has(one.key));
  for (const one of batch) {
    localStorage.removeItem(stored(`out:${one.key}`));
    if (said.refused[one.key]) refused(one, said.refused[one.key]);
  }
  if (said.n_rows !== undefined) showProgress(said);
}

function refused(one, why) {
  state.history = state.history.filter((key) => key !== one.key);
  const at = state.rows.findIndex((row) => row.id === one.id);
  if (at >= 0) {
    state.rows[at].decision = one.before || null;
    state.at = at;
    show();
  }
  tell(`Not taken: ${why}.`);
}

function showSaved(error) {
  const n = state.outbox.length;
  const rows = n === 1 ? "1 decision" : `${n} decisions`;
  const saved = $("saved");
  saved.classList.toggle("waiting", n > 0 && !error);
  saved.classList.toggle("failed", n > 0 && Boolean(error));
  let said = "Saved";
  if (n && !error) said = `Saving ${rows}`;
  if (n && error) said = `${rows} not saved, trying again: ${error.status ? error.message : "the server does not answer"}`;
  if (saved.textContent !== said) saved.textContent = said;
}

addEventListener("beforeunload", (event) => {
  if (state.outbox.length) event.preventDefault();
});

// Deciding

function decide(action, { label = null, text = null } = {}) {
  const row = state.rows[state.at];
  if (!row) return;
  closeEditor();
  tell("");
  const decision = { key: crypto.randomUUID(), id: row.id, action, label, text, of: "", before: row.decision };
  row.decision = { key: decision.key, action, label, text: text || row.text, by: state.task.by };
  keep(decision);
  state.history.push(decision.key);
  forward(`${verb(row.decision)}. `);
}

function undo() {
  const shown = state.rows[state.at];
  const key = shown && shown.decision && !state.history.includes(shown.decision.key)
    ? shown.decision.key : state.history.pop();
  if (!key) return tell("There is nothing to undo.");
  const made = state.byKey.get(key);
  const id = made ? made.id : shown.id;
  keep({ key: crypto.randomUUID(), id, action: "undo", label: null, text: null, of: key, before: null });
  const at = state.rows.findIndex((row) => row.id === id);
  if (at >= 0) {
    state.rows[at].decision = made ? made.before : null;
    state.at = at;
  }
  show("Undone. ");
}

function keep(decision) {
  decision.time = performance.timeOrigin + performance.now();
  state.byKey.set(decision.key, decision);
  state.outbox.push(decision);
  remember(decision);
  flush();
}

function verb({ action, label }) {
  if (action === "reject") return "Rejected";
  return { accept: "Accepted", relabel: "Relabelled", edit: "Edited", label: "Labelled" }[action] + ` as ${label}`;
}

function accept() {
  const row = state.rows[state.at];
  if (row && row.label === null) return tell("This row has no label to accept: give it one.");
  if (row) decide("accept", { label: row.label });
}

function choose(label) {
  const row = state.rows[state.at];
  if (row) decide(row.label === label ? "accept" : "relabel", { label });
}

// Moving

function forward(said = "") {
  let at = state.at + 1;
  while (at < state.rows.length && state.rows[at].decision) at += 1;
  state.at = at;
  show(said);
  load();
}

function move(step) {
  const at = state.at + step;
  if (at < 0) return before();
  if (at > state.rows.length) return;
  state.at = at;
  tell("");
  show();
  load();
}

async function before() {
  const first = state.rows[0];
  if (!first || first.place === 0) return tell("This is the first row.");
  const query = `order=${state.order}&after=${first.place}&n=${FETCHED}&is_open=false&backwards=true`;
  const { rows } = await ask(`/api/rows?${query}`);
  state.rows.unshift(...rows.reverse().map(withUnsaved));
  state.at = rows.length - 1;
  show();
}

async function load() {
  if (state.isWhole || state.loading || state.rows.length - state.at > AHEAD) return;
  const { order, run } = state;
  const last = state.rows.at(-1);
  state.loading = true;
  try {
    const { rows } = await ask(`/api/rows?order=${order}&after=${last ? last.place : -1}&n=${FETCHED}`);
    if (run !== state.run) return;
    const wasAtEnd = state.at >= state.rows.length;
    state.rows.push(...rows.map(withUnsaved));
    state.isWhole = rows.length < FETCHED;
    while (wasAtEnd && state.at < state.rows.length && state.rows[state.at].decision) state.at += 1;
    if (wasAtEnd) show();
  } catch (error) {
    if (run !== state.run) return;
    tell(`${error.status ? error.message : "The server does not answer"}; trying again.`);
    setTimeout(load, 2000);
  } finally {
    if (run === state.run) state.loading = false;
  }
}

function withUnsaved(row) {
  const unsaved = state.outbox.filter((one) => one.id === row.id).at(-1);
  if (unsaved && unsaved.action === "undo") row.decision = null;
  else if (unsaved) row.decision = { ...unsaved, by: state.task.by };
  return row;
}

async function start(order, id) {
  Object.assign(state, { order, rows: [], at: 0, isWhole: false, loading: false, run: state.run + 1 });
  if (id) {
    const { rows } = await ask(`/api/rows?order=${order}&row=${encodeURIComponent(id)}&n=1&is_open=false`);
    state.rows = rows.filter((row) => row.id === id).map(withUnsaved);
    if (state.rows.length && state.rows[0].decision) state.at = 1;
  }
  await load();
  show();
}

// Showing

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function show(said = "") {
  const row = state.rows[state.at];
  $("row").hidden = !row;
  $("end").hidden = Boolean(row) || !state.isWhole;
  if (!row) return state.isWhole ? showEnd(said) : undefined;
  $("place").textContent = `Row ${row.place + 1} of ${state.task.n_rows}, ${origin(row)}`;
  $("text").textContent = row.text;
  const decision = row.decision;
  $("decision").hidden = !decision;
  if (decision) {
    const now = decision.action === "edit" ? `: ${decision.text}` : "";
    $("decision").textContent = `${verb(decision)}${decision.by ? ` by ${decision.by}` : ""}${now}`;
  }
  $("accepted").textContent = row.label === null ? "" : ` ${row.label}`;
  showVotes(row);
  showLabels(row);
  rememberPlace();
  const ending = row.label === null ? "" : ` Label: ${row.label}.`;
  $("live").textContent = `${said}Row ${row.place + 1}: ${row.text}.${ending}`;
}

function origin(row) {
  const made = row.strategy ? `written (${row.strategy})` : "a real text";
  if (row.state === "trained on") return made;
  return row.state === "not labelled" ? `${made}, not labelled` : `${made}, dropped: ${row.state}`;
}

function showVotes(row) {
  const shares = new Map(row.probabilities);
  const lines = [];
  for (const [who, label] of Object.entries(row.votes)) {
    lines.push(element("dt", who), element("dd", label));
  }
  if (shares.size) {
    const text = row.probabilities.slice(0, 3).map(([label, share]) => `${label} ${Math.round(100 * share)}%`).join(", ");
    lines.push(element("dt", "likeliest"), element("dd", text));
  }
  $("votes").replaceChildren(...lines);
}

let labelButtons = new Map();
let keyed = new Map();

function buildLabels() {
  const names = state.task.labels.map((label) => label.name);
  const isMany = names.length > FREE_KEYS.length;
  keyed = isMany ? new Map() : new Map(names.map((name, at) => [FREE_KEYS[at], name]));
  $("labels").classList.toggle("many", isMany);
  $("search-line").hidden = names.length <= 9;
  $("help-labels").textContent = isMany
    ? "give it one of the nine likeliest labels of this row" : "give it the label with this key";
  const keys = new Map([...keyed].map(([key, name]) => [name, key]));
  const items = state.task.labels.map(({ name, description }) => {
    const item = element("li");
    const button = labelButton(name, keys.get(name));
    button.title = description || "";
    item.append(button);
    labelButtons.set(name, button);
    return item;
  });
  $("labels").replaceChildren(...items);
  $("new-label").replaceChildren(...names.map((name) => new Option(name, name)));
}

function labelButton(name, key) {
  const button = element("button", name);
  button.type = "button";
  if (key) button.append(" ", element("kbd", key));
  button.addEventListener("click", (event) => { choose(name); afterClick(event); });
  return button;
}

function showLabels(row) {
  for (const [name, button] of labelButtons) {
    if (name === row.label) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  if (labelButtons.size <= FREE_KEYS.length) return;
  const voted = [...new Set([...Object.values(row.votes), ...row.probabilities.map(([label]) => label)])];
  const shares = new Map(row.probabilities);
  const names = voted.filter((name) => labelButtons.has(name));
  names.sort((one, other) => (shares.get(other) || 0) - (shares.get(one) || 0));
  keyed = new Map(names.slice(0, 9).map((name, at) => [String(at + 1), name]));
  $("likely").hidden = !keyed.size;
  $("likely").replaceChildren(...[...keyed].map(([key, name]) => {
    const item = element("li");
    const button = labelButton(name, key);
    if (shares.has(name)) button.append(" ", element("span", `${Math.round(100 * shares.get(name))}%`, "share"));
    item.append(button);
    return item;
  }));
}

function showEnd(said) {
  const n = state.task.n_rows - state.task.n_decided - state.outbox.filter((one) => one.action !== "undo").length;
  $("end-text").textContent = `${said}${state.task.n_decided} of ${state.task.n_rows} rows have a decision.`;
  $("left").hidden = n <= 0;
  $("live").textContent = `${said}No row is left in this order.`;
}

function showProgress({ n_rows, n_decided }) {
  Object.assign(state.task, { n_rows, n_decided });
  $("progress").textContent = `${n_decided.toLocaleString("en")} of ${n_rows.toLocaleString("en")} decided`;
  $("bar").max = Math.max(1, n_rows);
  $("bar").value = n_decided;
  if (!$("end").hidden) showEnd("");
}

function tell(message) {
  $("problem").hidden = !message;
  $("problem").textContent = message;
}

function refocus() {
  $("row").focus({ preventScroll: true });
}

function afterClick(event) {
  // Who clicked with a pointer presses keys next, and Enter must not mean the button that was clicked.
  if (event.detail || !document.contains(event.target)) refocus();
}

// Editing

function openEditor() {
  const row = state.rows[state.at];
  if (!row) return;
  $("editor").hidden = false;
  $("new-text").value = row.text;
  $("new-label").value = row.label === null ? "" : row.label;
  $("new-text").focus();
}

function closeEditor() {
  if ($("editor").hidden) return;
  $("editor").hidden = true;
  refocus();
}

function saveEdit() {
  const text = $("new-text").value;
  const label = $("new-label").value;
  const row = state.rows[state.at];
  if (!label) return tell("Choose a label for the new text.");
  if (!text.trim()) return tell("The text is empty; reject the row instead.");
  if (text === row.text) choose(label);
  else decide("edit", { label, text });
}

// Searching

function matching() {
  const words = $("search").value.toLowerCase().split(/[\s_]+/).filter(Boolean);
  const has = (name) => words.every((word) => name.toLowerCase().replaceAll("_", " ").includes(word));
  return words.length ? [...labelButtons.keys()].filter(has) : [];
}

function search() {
  const found = matching();
  const typed = Boolean($("search").value.trim());
  for (const [name, button] of labelButtons) {
    button.parentElement.hidden = typed && !found.includes(name);
    button.parentElement.classList.toggle("found", name === found[0]);
  }
  $("matches").textContent = typed ? `${found.length} found${found.length ? `, Enter takes ${found[0]}` : ""}` : "";
}

function endSearch() {
  $("search").value = "";
  search();
  refocus();
}

// Keys

const COMMANDS = {
  Enter: accept,
  e: openEditor,
  x: () => decide("reject"),
  u: undo,
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  "/": () => { if (!$("search-line").hidden) $("search").focus(); },
  "?": () => $("help").showModal(),
};
const REPEATABLE = new Set(["ArrowLeft", "ArrowRight"]);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("help").open) return;
  const target = event.target;
  if (target.matches("textarea, select, input:not([type=checkbox])") || !$("keys").checked) return;
  if (event.key === "Enter" && target.matches("button, a, input")) return; // the button says what Enter does
  const label = keyed.get(event.key.toLowerCase());
  const command = COMMANDS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!command && label === undefined) return;
  event.preventDefault();
  if (event.repeat && !REPEATABLE.has(event.key)) return; // a key held down is no decision about the next rows
  if (command) command();
  else choose(label);
});

$("search").addEventListener("input", search);
$("search").addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Escape") endSearch();
  if (event.key === "Enter") {
    const [first] = matching();
    if (first) { choose(first); endSearch(); }
  }
});
$("editor").addEventListener("submit", (event) => { event.preventDefault(); saveEdit(); });
$("editor").addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeEditor();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) saveEdit();
});
const clicks = {
  accept, edit: openEditor, reject: () => decide("reject"), undo, cancel: closeEditor,
  previous: () => move(-1), next: () => move(1), "help-button": () => $("help").showModal(),
  left: () => start(state.order),
};
for (const [id, action] of Object.entries(clicks)) {
  $(id).addEventListener("click", (event) => {
    action();
    if (!["edit", "help-button"].includes(id)) afterClick(event);
  });
}
$("help").addEventListener("close", refocus);
$("keys").addEventListener("click", afterClick);
let isPointed = false; // a select says in no event what changed it
$("order").addEventListener("pointerdown", () => { isPointed = true; });
$("order").addEventListener("keydown", (event) => {
  isPointed = false;
  if (event.key === "Escape") refocus();
});
$("order").addEventListener("change", () => {
  explain();
  start($("order").value);
  if (isPointed) refocus();
});

function explain() {
  $("explained").textContent = state.task.orders.find((order) => order.name === $("order").value).explained;
}

// Beginning

async function begin() {
  try {
    await enter();
    state.task = await ask("/api/task");
  } catch (error) {
    $("progress").textContent = "";
    tell(error.status ? `${error.message}.` : "The server does not answer; trying again.");
    if (!error.status) setTimeout(begin, 2000);
    return;
  }
  tell("");
  document.title = $("title").textContent = `Review of ${state.task.name} by ${state.task.by}`;
  $("order").replaceChildren(...state.task.orders.map(({ name }) => new Option(name, name)));
  state.outbox = recall();
  for (const one of state.outbox) state.byKey.set(one.key, one);
  showProgress(state.task);
  buildLabels();
  const place = JSON.parse(localStorage.getItem(stored("place")) || "null");
  const known = place && state.task.orders.some((order) => order.name === place.order);
  $("order").value = known ? place.order : "best";
  explain();
  flush();
  await start($("order").value, known ? place.id : undefined);
}

begin();

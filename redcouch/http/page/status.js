// The status page: asks its own service every few seconds and shows what it says.

import { Chart } from "./charts.js";
import { Table, fill, say } from "./tables.js";

const EVERY = 3000; // milliseconds
const KEPT = 3600; // seconds

const place = (id) => document.getElementById(id);

// -- how things are written ------------------------------------------------------------------

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const number = (value) => (value < 10000 ? whole.format(value) : compact.format(value));
const rate = (value) => (value >= 10 || value === 0 ? number(value) : value.toFixed(1));
const percent = (value) => `${Number((value * 100).toFixed(1))}%`;

function milliseconds(value) {
  if (value === null || value === undefined) return "\u2013";
  if (value === 0) return "0";
  return value < 1 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : whole.format(value);
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let left = value, unit = 0;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${left < 10 && unit ? left.toFixed(1) : Math.round(left)} ${units[unit]}`;
}

function duration(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

// Beside a chart, where the value is round.
const tick = (value) => (value > 0 && value < 1 ? String(value) : compact.format(value));

const times = (count) => (count === 0 ? "never" : count === 1 ? "once" : `${number(count)} times`);

const ago = (seconds) => (seconds < 5 ? "now" : `${duration(seconds)} ago`);

// -- parts of the page -----------------------------------------------------------------------

const charts = [
  new Chart("chart-operations", {
    unit: "per second", write: rate, tick, area: true,
    series: [{ name: "all", look: "one", value: (point) => point.operations },
      { name: "storage errors", look: "two", value: (point) => point.errors, peak: true }],
  }),
  new Chart("chart-hits", {
    unit: "of keys read", write: percent, top: 1, area: true,
    series: [{ name: "hits", look: "one", value: (point) =>
      (point.hits + point.misses ? point.hits / (point.hits + point.misses) : null) }],
  }),
  new Chart("chart-latency", {
    unit: "ms, median", write: milliseconds, tick, area: false, decades: true,
    series: [{ name: "median", look: "one", value: (point) => point.median },
      { name: "99 of 100 within", look: "two", value: (point) => point.slow, peak: true }],
  }),
];

const workers = new Table("workers", [
  { name: "Worker", of: (worker) => worker.number },
  { name: "Process", of: (worker) => worker.glance?.pid ?? "", number: true },
  { name: "State", of: (worker) => (worker.glance ? (worker.glance.ready ? "ready" : worker.glance.reason) : "down"),
    look: (worker) => (worker.glance?.ready ? "good" : "bad") },
  { name: "Clients", of: (worker) => worker.glance?.connections ?? 0, number: true },
  { name: "In flight", of: (worker) => worker.glance?.in_flight ?? 0, number: true },
  { name: "CPU", of: (worker) => worker.cpu ?? null, number: true,
    write: (value) => (value === null ? "\u2013" : `${Math.round(value * 100)}%`) },
  { name: "Memory", of: (worker) => worker.usage?.memory ?? 0, write: bytes, number: true },
  { name: "Files", of: (worker) => worker.usage?.files ?? 0, number: true },
  { name: "Up", of: (worker) => worker.usage?.age ?? 0, write: duration, number: true },
  { name: "Restarts", of: (worker) => worker.restarts, number: true },
], { none: "No worker.", sort: "Worker" });

const nodes = new Table("nodes", [
  { name: "Node", of: (node) => node.address },
  { name: "State", of: (node) => node.trouble ?? node.role ?? "",
    look: (node) => (node.trouble === undefined && node.role === "master" ? "good" : "bad") },
  { name: "Slots", of: (node) => node.slots, write: whole.format, number: true },
  { name: "Replicas", of: (node) => node.replicas ?? null, number: true,
    write: (value) => (value === null ? "\u2013" : String(value)) },
  { name: "Lag", of: (node) => node.lag ?? null, number: true,
    write: (value) => (value === null ? "\u2013" : bytes(value)) },
  { name: "Memory", of: (node) => node.memory ?? 0, write: bytes, number: true },
  { name: "Commands/s", of: (node) => node.operations ?? 0, write: whole.format, number: true },
  { name: "Version", of: (node) => node.version ?? "" },
], { none: "None that can be asked.", sort: "Node" });

const commands = new Table("commands", [
  { name: "Command", of: (row) => row.command },
  { name: "Dialect", of: (row) => row.dialect },
  { name: "Outcome", of: (row) => row.outcome.replace("_", " "),
    look: (row) => (row.outcome === "error" ? "bad" : "") },
  { name: "Count", of: (row) => row.count, write: (value) => whole.format(value), number: true },
], { none: "No command yet.", sort: "Count", descending: true });

const settings = new Table("settings", [
  { name: "Option", of: (row) => row.name },
  { name: "Value", of: (row) => row.value },
], { none: "", sortable: false, most: Infinity });

// Who speaks memcached: what the inventory has of each kind, and who is connected at this moment.
let now = 0;
const seen = (title) => [
  { name: title, of: (row) => row.name || "(none)" },
  { name: "Last seen", of: (row) => row.last, write: (value) => ago(Math.max(0, now - value)), number: true },
  { name: "Seconds active", of: (row) => row.seconds, write: whole.format, number: true },
];
const called = { name: "Name", of: (row) => row.called || "\u2013" };
const KINDS = [
  ["application", "Applications", [called, { name: "Address", of: (row) => row.address },
    { name: "User", of: (row) => row.user || "\u2013" },
    { name: "Prefix of keys", of: (row) => row.prefix || "(none)" }, ...seen("").slice(1)]],
  ["client", "Clients", [called, ...seen("Address")]],
  ["user", "Users", seen("User")],
  ["prefix", "Prefixes", seen("Prefix of keys")],
  ["command", "Commands", seen("Command")],
  ["dialect", "Dialects", seen("Dialect")],
  ["connected", "Connected now", [called, { name: "Address", of: (row) => row.address }]],
];
let chosen = "connected";
const clients = new Table("clients", KINDS.at(-1)[2], { none: "Nobody.", sort: "Address" });

function choose(kind) {
  chosen = kind;
  const columns = KINDS.find(([name]) => name === kind)[2];
  clients.descending = kind !== "connected";
  clients.change(columns, kind === "connected" ? "Address" : "Last seen");
  for (const button of place("clients-choice").children) {
    button.setAttribute("aria-pressed", button.dataset.kind === kind);
  }
}

function offerKinds() {
  place("clients-choice").replaceChildren(...KINDS.map(([kind, title]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.kind = kind;
    button.textContent = title;
    button.addEventListener("click", () => {
      choose(kind);
      if (latest) showClients(latest);
    });
    return button;
  }));
  choose("application");
}

function showFacts(id, pairs) {
  const known = pairs.filter(([, value]) => value !== undefined);
  fill(place(id), known, () => {
    const both = document.createElement("div");
    both.append(document.createElement("dt"), document.createElement("dd"));
    return both;
  }, ({ children: [term, fact] }, [name, value]) => {
    say(term, name);
    say(fact, value);
  });
}

function showState(status) {
  const state = status.ready ? "ready" : status.reason === "draining" ? "draining" : "not ready";
  say(place("state"), state);
  place("state").className = `pill ${status.ready ? "good" : "bad"}`;
  place("trouble").hidden = status.ready;
  say(place("trouble"), status.ready ? "" : status.reason === "draining"
    ? "RedCouch ends: its last clients finish." : `Clients cannot be served as they should: ${status.reason}`);
  say(place("version"), status.version);
  say(place("uptime"), `up ${duration(status.uptime)}`);
  const rates = status.rates;
  document.title = status.ready
    ? `${rates ? `${rate(rates.operations)}/s \u00b7 ` : ""}RedCouch`
    : `! ${state} \u00b7 RedCouch`;
}

function showPhase(phase) {
  for (const step of place("phases").children) {
    const at = Number(step.dataset.phase);
    step.className = at === phase.number ? "here" : at < phase.number ? "done" : "";
    if (at === phase.number) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  }
  say(place("phase-says"), phase.says);
  const last = phase.number === 3;
  say(place("phase-next"), phase.blockers.length
    ? (last ? "Before RedCouch can go" : "What blocks the next phase")
    : (last ? "Nothing blocks: RedCouch can go." : "Nothing blocks the next phase."));
  place("phase-command").hidden = !phase.command;
  say(place("phase-command").querySelector("code"), phase.command);
  fill(place("blockers"), phase.blockers, () => document.createElement("li"), say);
}

function showStorage(storage, rates, ready) {
  const { facts, statistics } = storage;
  const limit = facts.memory_limit;
  const known = (value, write) => (value === undefined ? undefined : write(value));
  say(place("storage-url"), storage.url);
  showFacts("storage", [
    [facts.kind ?? "State", facts.version ?? (ready ? "ready" : "not reachable")],
    ["Role", known(facts.role, (role) => role
      + (facts.replicas ? `, ${facts.replicas} replica${facts.replicas === 1 ? "" : "s"}` : ""))],
    ["Items", known(statistics.curr_items, number)],
    ["Memory", known(facts.memory ?? statistics.bytes, bytes)],
    ["Memory limit", known(limit, (most) => (most ? bytes(most) : "none"))],
    ["Eviction", facts.policy],
    ["Evicted", known(facts.evicted ?? statistics.evictions, number)],
    ["Expired", known(facts.expired ?? statistics.reclaimed, number)],
    ["Round trip", rates?.storage == null ? undefined : `${milliseconds(rates.storage)} ms`],
    ["Connected again", times(storage.reconnections)],
    ["Its connections", known(facts.clients, number)],
    ["Native clients", known(facts.natives, number)],
    ["Up", known(facts.uptime, duration)],
  ]);
}

function showWarmth(warm) {
  place("warm-card").hidden = !warm;
  if (!warm) return;
  const { share } = warm;
  showFacts("warm", [
    ["Stage", warm.stage ?? undefined],
    ["Going back is safe", warm.stage == null ? undefined : warm.no_way_back ? `no: ${warm.no_way_back}` : "ask redcouch stage"],
    ["Had by Redis itself", share == null ? undefined : `${(100 * share).toFixed(1)} %`],
    ["Fetched from the old", number(warm.warm_pulled)],
    ["In neither", number(warm.warm_misses)],
    ["Not answered by the old", number(warm.warm_errors)],
    ["Items left to move", warm.warm_left == null ? "not known before redcouch sweep" : number(warm.warm_left)],
    ["Keys it may have out of date", warm.warm_barred == null ? undefined : number(warm.warm_barred)],
    ["Still fetches", warm.warm_ended == null ? undefined : (warm.warm_ended ? "no, it missed too much" : "yes")],
  ]);
}

function showCache(cache) {
  place("cache-card").hidden = !cache;
  if (!cache) return;
  const { cache_hits: hits, cache_misses: misses } = cache;
  showFacts("cache", [
    ["Answered from memory", hits + misses ? percent(hits / (hits + misses)) : undefined],
    ["Hits", number(hits)],
    ["Asked of Redis", number(misses)],
    ["Dropped as changed", number(cache.cache_invalidations)],
    ["Held", bytes(cache.cache_bytes)],
  ]);
}

function showNodes(cluster, facts) {
  place("nodes-card").hidden = !cluster;
  if (!cluster) return;
  nodes.show(facts.nodes ?? []);
  say(place("nodes-note"), `${times(cluster.cluster_redirections)} sent to another node, `
    + `${times(cluster.cluster_repetitions)} again to one that could not serve yet; `
    + `${times(cluster.cluster_refreshes)} asked for the slots.`);
}

// CPU time from one answer to the next, as a share of one core.
const before = new Map();

function withCpu(list, now) {
  return list.map((worker) => {
    if (!worker.usage || !worker.glance) return worker;
    const { pid } = worker.glance;
    const last = before.get(pid);
    before.set(pid, { now, cpu: worker.usage.cpu });
    const cpu = last && now > last.now ? (worker.usage.cpu - last.cpu) / (now - last.now) : null;
    return { ...worker, cpu };
  });
}

let latest = null;

function showClients(status) {
  latest = status;
  now = status.now;
  const kept = status.traffic.since != null;
  if (kept && !place("clients-choice").children.length) offerKinds();
  clients.show(chosen === "connected" ? status.clients : status.traffic[chosen] ?? []);
  const more = chosen === "connected" ? status.clients_left_out : 0;
  const { limit, accepted, rejected } = status.connections;
  say(place("clients-note"), `${number(status.connections.now)} connected of ${number(limit)} allowed; `
    + `${number(accepted)} so far, ${number(rejected)} refused.`
    + (kept ? ` Watched without a gap for ${duration(status.traffic.looked - status.traffic.since)}.` : "")
    + (more ? ` ${number(more)} more are not listed.` : ""));
}

function show(status) {
  showState(status);
  showPhase(status.phase);
  showStorage(status.storage, status.rates, status.ready);
  showWarmth(status.warm);
  showCache(status.cache);
  showNodes(status.cluster, status.storage.facts);
  showClients(status);
  commands.show(status.commands);
  workers.show(withCpu(status.workers, status.now));
  settings.show(status.settings);
}

// -- asking ----------------------------------------------------------------------------------

let points = [];
let silentSince = null;

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(10000) });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer.json();
}

async function look() {
  try {
    const since = points.at(-1)?.time ?? 0;
    const [status, history] = await Promise.all([
      ask("api/status"), ask(`api/history?since=${since}`),
    ]);
    if (status.now < since) points = []; // the clock was set back
    const fresh = history.points.filter((point) => point.time > (points.at(-1)?.time ?? 0));
    points = [...points, ...fresh].filter((point) => point.time > status.now - KEPT);
    for (const chart of charts) chart.show(points);
    show(status);
    silentSince = null;
    place("silent").hidden = true;
    document.querySelector("main").className = "";
  } catch (error) {
    silentSince ??= new Date().toLocaleTimeString([], { hourCycle: "h23" });
    place("silent").hidden = false;
    say(place("silent"), `RedCouch has not answered since ${silentSince}: ${error.message}`);
    place("trouble").hidden = true;
    document.querySelector("main").classList.add("stale");
    say(place("state"), "no answer");
    place("state").className = "pill bad";
    document.title = "! no answer \u00b7 RedCouch";
  }
  setTimeout(look, EVERY);
}

look();

"use strict";
// Draws what /data says. Text goes into the page by textContent alone: a message may hold anything.
const SVG = "http://www.w3.org/2000/svg";
const W = 340, H = 130, LEFT = 42, BOTTOM = 18, TOP = 8;

function make(tag, attributes = {}, text = "") {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== "") node.textContent = text;
  return node;
}
function fill(id, ...nodes) { document.getElementById(id).replaceChildren(...nodes); }
function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return `${Math.round(value / 1000)}k`;
  return size >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(size >= 10 ? 1 : 2);
}
function clock(seconds, hours) {
  const moment = new Date(seconds * 1000).toISOString();
  return hours > 24 ? moment.slice(5, 10) : moment.slice(11, 16);
}

function chart(title, series, times, hours) {
  const card = make("section", { class: "card" });
  card.append(make("h2", {}, title));
  const values = series.flatMap((one) => one.values).filter((value) => value !== null);
  if (!values.length) { card.append(make("p", { class: "soft" }, "Nothing in this window.")); return card; }
  const top = Math.max(...values) * 1.05 || 1;
  const x = (place) => LEFT + (W - LEFT - 6) * (times.length > 1 ? place / (times.length - 1) : 0.5);
  const y = (value) => H - BOTTOM - (H - BOTTOM - TOP) * (value / top);
  const words = series.map((one) => `${one.name}: last ${short([...one.values].reverse().find((v) => v !== null))}`).join("; ");
  const svg = make("svg:svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}. ${words}` });
  for (const share of [0, 0.5, 1]) {
    const at = y(top * share / 1.05);
    svg.append(make("svg:line", { class: "axis", x1: LEFT, x2: W - 6, y1: at, y2: at }));
    svg.append(make("svg:text", { x: LEFT - 5, y: at + 4, "text-anchor": "end" }, short(top * share / 1.05)));
  }
  svg.append(make("svg:text", { x: LEFT, y: H - 3 }, clock(times[0], hours)));
  svg.append(make("svg:text", { x: W - 6, y: H - 3, "text-anchor": "end" }, clock(times[times.length - 1], hours)));
  series.forEach((one, number) => draw(svg, one.values, x, y, number ? " second" : ""));
  card.append(svg);
  if (series.length > 1) card.append(legend(series));
  return card;
}
function draw(svg, values, x, y, kind) {
  let run = [];
  const end = () => {
    if (run.length > 1) svg.append(make("svg:polyline", { class: `line${kind}`, points: run.map((p) => p.join(",")).join(" ") }));
    if (run.length === 1) svg.append(make("svg:circle", { class: `dot${kind}`, cx: run[0][0], cy: run[0][1], r: 2.5 }));
    run = [];
  };
  values.forEach((value, place) => { if (value === null) end(); else run.push([x(place).toFixed(1), y(value).toFixed(1)]); });
  end();
}
function legend(series) {
  const line = make("p", { class: "legend" });
  series.forEach((one, number) => {
    const entry = make("span");
    entry.append(make("i", number ? { class: "second" } : {}), one.name);
    line.append(entry);
  });
  return line;
}
function interval(values, low, high) {
  const box = make("div");
  const at = (value) => `${(100 * (Math.min(high, Math.max(low, value)) - low)) / (high - low)}%`;
  const track = make("div", { class: "interval" });
  const span = make("div", { class: "span" }), mark = make("div", { class: "mark" });
  span.style.left = at(values.lower);
  span.style.width = `calc(${at(values.upper)} - ${at(values.lower)})`;
  mark.style.left = at(values.estimate);
  track.append(span, mark);
  const ends = make("div", { class: "ends" });
  ends.append(make("span", {}, low), make("span", {}, high));
  const digits = (value) => value.toFixed(3);
  if (!values.consistent) {
    box.append(make("p", {}, `${digits(values.estimate)} over ${many(values.n)}`), nothing("It has changed meanwhile: no one value fits all of them."));
    return box;
  }
  box.append(make("p", {}, `${digits(values.estimate)}  [${digits(values.lower)}, ${digits(values.upper)}], ${many(values.n)}`), track, ends);
  return box;
}
function many(n) { return n === 1 ? "1 request" : `${n} requests`; }
function nothing(words) { return make("p", { class: "soft" }, words); }

function show(data) {
  fill("tiles", ...data.tiles.map((tile) => {
    const node = make("div", { class: "tile" });
    node.append(make("b", {}, tile.value), make("span", {}, tile.name));
    return node;
  }));
  const state = data.state, agreement = state.agreement;
  const since = agreement && agreement.since ? [nothing(`It changed at ${new Date(agreement.since * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC; what is shown is since then.`)] : [];
  fill("agreement", agreement && agreement.n ? interval(agreement, 0, 1) : nothing("The teacher was not asked yet."), ...since);
  const canary = state.canary;
  if (canary) {
    const verdict = canary.verdict === "undecided" ? "Not decided yet." : `The ${canary.verdict} is better (p ≤ ${canary.p.toPrecision(2)}).`;
    fill("canary", interval({ ...canary, estimate: canary.difference }, -1, 1), make("p", {}, verdict));
  } else fill("canary", nothing("No candidate is tried."));
  const levels = Object.entries(state.drift || {});
  const alarmed = new Set(data.alerts.map((alert) => alert.rule));
  fill("drift", ...(levels.length ? levels.map(([rule, level]) => {
    const alarm = alarmed.has(`drift:${rule}`);
    const row = make("div", { class: alarm ? "level alarm" : "level" }), track = make("div", { class: "track" });
    const bar = make("div", { class: level > 0.8 ? "fill near" : "fill" });
    bar.style.width = `${100 * level}%`;
    track.append(bar);
    row.append(make("span", {}, rule.replaceAll("_", " ")), track, make("span", {}, alarm ? "alarm" : level.toFixed(2)));
    return row;
  }) : [nothing("No evaluation set to compare with.")]));
  const psi = state.psi;
  document.getElementById("psi").textContent = psi ? `PSI of topics ${short(psi.psi)} [${short(psi.lower)}, ${short(psi.upper)}], last ${psi.n} questions.` : "";
  fill("charts", ...data.charts.map((one) => chart(one.title, one.series, data.times, data.hours)));
  if (data.alerts.length) {
    const table = make("table", { class: "alerts" }), head = make("tr"), body = make("tbody"), top = make("thead");
    head.append(...["When (UTC)", "Rule", "What"].map((name) => make("th", {}, name)));
    top.append(head);
    for (const alert of data.alerts) {
      const row = make("tr");
      row.append(make("td", {}, alert.when), make("td", {}, alert.rule), make("td", {}, alert.message));
      body.append(row);
    }
    table.append(top, body);
    fill("alerts", table);
  } else fill("alerts", nothing("None in this window."));
}
async function refresh() {
  const fresh = document.getElementById("fresh");
  try {
    const answer = await fetch(`/data?hours=${document.getElementById("hours").value}`);
    if (!answer.ok) throw new Error(answer.status);
    show(await answer.json());
    fresh.textContent = `Updated ${new Date().toISOString().slice(11, 19)} UTC.`;
  } catch { fresh.textContent = "The monitor does not answer; the figures are old."; }
}
document.getElementById("hours").addEventListener("change", refresh);
refresh();
// A month of requests is much to count every few seconds.
let ticks = 0;
setInterval(() => { ticks += 1; if (document.getElementById("hours").value <= 24 || ticks % 12 === 0) refresh(); }, 5000);

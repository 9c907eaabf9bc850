// A rollout's test as it ran: e-values and their limits, and the ratio of the rates with what is not excluded.
"use strict";

const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(name).trim();
const told = (id) => JSON.parse(document.getElementById(id).textContent);
const seconds = { label: "seconds", value: (_, value) => (value == null ? "–" : value.toFixed(0) + " s") };
const digits = (_, value) => (value == null ? "–" : value.toPrecision(3));

function axes(more) {
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  return [{ ...axis, values: (_, ticks) => ticks.map((tick) => tick + " s") }, { ...axis, ...more }];
}

// What all charts of the page share: where the pointer is in one, it is in the others.
function draw(element, data, series, height, y, axis, more = {}) {
  const { paddingLeft, paddingRight } = getComputedStyle(element);
  new uPlot({
    width: Math.max(element.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight), 280), height, series, axes: axes(axis),
    scales: { x: { time: false }, y: { distr: 3, ...y } }, cursor: { sync: { key: "rollout" } }, ...more,
  }, data, element);
}

headrace.part("evidence", (element) => {
  const begun = told("evidence-begun");
  const curves = told("evidence-curves");
  const colours = ["--link", "--canary", "--wait", "--good", "--busy"].map(colour);
  const times = [...new Set(curves.flatMap((curve) => curve.at))].sort((a, b) => a - b);
  const data = [times.map((at) => at - begun)];
  const series = [seconds];
  curves.forEach((curve, number) => {
    const known = new Map(curve.at.map((at, place) => [at, Math.max(curve.e_values[place], 1e-3)]));
    const stroke = colours[number % colours.length];
    data.push(times.map((at) => known.get(at) ?? null));
    series.push({ label: curve.metric, stroke, width: 2, spanGaps: true, points: { show: times.length < 40 }, value: digits });
    data.push(times.map(() => curve.limit));
    series.push({ label: "limit of " + curve.metric, stroke, width: 1, dash: [6, 5], points: { show: false }, value: digits });
  });
  element.hidden = false;
  element.replaceChildren();
  draw(element, data, series, 260, {}, {});
});

// The ends of the scale of ratios: nothing beyond is excluded.
const LEAST = 1 / 64, MOST = 64;

// Powers of two around what the newer half of a curve shows, from a quarter to four at least.
function powers(curve) {
  const newer = (values) => values.slice(Math.floor(values.length / 2));
  const low = Math.floor(Math.log2(Math.max(LEAST, Math.min(1 / 4, ...newer(curve.low)))));
  const high = Math.ceil(Math.log2(Math.min(MOST, Math.max(4, ...newer(curve.high)))));
  return Array.from({ length: high - low + 1 }, (_, place) => 2 ** (low + place));
}

headrace.part("ratios", (element) => {
  const begun = told("evidence-begun");
  const stroke = colour("--canary");
  // Where nothing is excluded there is nothing to draw.
  const curves = told("evidence-curves").filter((curve) => curve.low.at(-1) > LEAST || curve.high.at(-1) < MOST);
  element.hidden = !curves.length;
  element.replaceChildren(...curves.map((curve) => {
    const figure = document.createElement("figure");
    figure.className = "chart";
    const words = figure.appendChild(document.createElement("figcaption"));
    words.appendChild(document.createElement("b")).textContent = curve.metric;
    words.append(": " + curve.words);
    return figure;
  }));
  curves.forEach((curve, number) => {
    const line = (label, more) => ({ label, width: 1, points: { show: false }, value: digits, ...more });
    const within = (ratio) => (ratio == null ? null : Math.min(Math.max(ratio, LEAST), MOST));
    const splits = powers(curve);
    draw(element.children[number], [
      curve.at.map((at) => at - begun), curve.ratios.map(within), curve.low, curve.high,
      curve.at.map(() => curve.margin), curve.at.map(() => 1),
    ], [
      seconds, line("estimate", { stroke, width: 2 }), line("from", { stroke }), line("to", { stroke }),
      line("no worse below", { stroke: colour("--good"), dash: [6, 5] }), line("alike", { stroke: colour("--dim"), class: "unnamed" }),
    ], 220, { log: 2, range: () => [splits[0], splits.at(-1)] }, {
      splits: () => splits, filter: (_, ticks) => ticks, size: 56,
      values: (_, ticks) => ticks.map((tick) => (ticks.length > 8 && Math.log2(tick) % 2 ? "" : (tick < 1 ? "1/" + 1 / tick : tick) + " ×")),
    }, { bands: [{ series: [3, 2], fill: stroke + "33" }] });
  });
});

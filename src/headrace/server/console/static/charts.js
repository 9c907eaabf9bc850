// The sequential test as it ran: e-values and their limits, on a logarithmic axis.
"use strict";

headrace.part("evidence", (element) => {
  const { begun, curves } = JSON.parse(document.getElementById("evidence-data").textContent);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const colours = ["--link", "--canary", "--wait", "--good", "--busy"].map(colour);
  const times = [...new Set(curves.flatMap((curve) => curve.at))].sort((a, b) => a - b);
  const data = [times.map((at) => at - begun)];
  const series = [{ label: "seconds", value: (_, value) => (value == null ? "–" : value.toFixed(0) + " s") }];
  curves.forEach((curve, number) => {
    const known = new Map(curve.at.map((at, place) => [at, Math.max(curve.e_values[place], 1e-3)]));
    const stroke = colours[number % colours.length];
    const told = (_, value) => (value == null ? "–" : value.toPrecision(3));
    data.push(times.map((at) => known.get(at) ?? null));
    series.push({ label: curve.metric, stroke, width: 2, spanGaps: true, points: { show: times.length < 40 }, value: told });
    data.push(times.map(() => curve.limit));
    series.push({ label: "limit of " + curve.metric, stroke, width: 1, dash: [6, 5], points: { show: false }, value: told });
  });
  element.hidden = false;
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  element.replaceChildren();
  new uPlot({
    width: Math.max(element.clientWidth, 280), height: 260, series, scales: { x: { time: false }, y: { distr: 3 } },
    axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => tick + " s") }, axis],
  }, data, element);
});

// Runs: two that are ticked are compared; a run's graph is laid out; a log is followed.
"use strict";

{
  const { part } = window.headrace;
  const ticked = new Set();

  part("ticked", (form) => {
    for (const box of form.querySelectorAll("input.tick")) {
      box.checked = ticked.has(box.value);
      if (box.dataset.heard) continue;
      box.dataset.heard = "yes";
      box.addEventListener("change", () => {
        if (box.checked) ticked.add(box.value); else ticked.delete(box.value);
        // The first of three gives way.
        if (ticked.size > 2) ticked.delete(ticked.values().next().value);
        window.headrace.refresh();
      });
    }
    // The older one is on the left, as time goes.
    const order = [...form.querySelectorAll("input.tick")].map((box) => box.value);
    const two = [...ticked].sort((a, b) => order.indexOf(b) - order.indexOf(a));
    form.querySelector(".ticked").hidden = two.length !== 2;
    form.querySelector(".hint").hidden = two.length === 2;
    if (two.length === 2) [form.elements.a.value, form.elements.b.value] = two;
  });

  const SVG = "http://www.w3.org/2000/svg";
  function make(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }
  const measure = document.createElement("canvas").getContext("2d");
  function widthOf(text, size) {
    measure.font = `${size}px system-ui, sans-serif`;
    return measure.measureText(text).width;
  }
  function cut(text) {
    return text.length > 34 ? text.slice(0, 33) + "…" : text;
  }

  part("graph", (element) => {
    if (!window.dagre) return;
    const nodes = JSON.parse(element.querySelector("script").textContent);
    element.hidden = nodes.length === 0;
    const layout = new dagre.graphlib.Graph({ compound: true });
    layout.setGraph({ rankdir: "LR", nodesep: 12, ranksep: 34, marginx: 14, marginy: 14 });
    layout.setDefaultEdgeLabel(() => ({}));
    const children = {};
    for (const node of nodes) (children[node.parent] ??= []).push(node);
    for (const node of nodes) {
      if (children[node.path]) layout.setNode(node.path, { node });
      else layout.setNode(node.path, { node, height: node.note ? 44 : 30, width: 46 + Math.max(widthOf(cut(node.name), 12), widthOf(node.note, 11)) });
    }
    for (const node of nodes) if (node.parent) layout.setParent(node.path, node.parent);
    // An edge to or from an unfolded group leads to what begins or ends in it: edges join boxes, not groups.
    const known = new Map(nodes.map((node) => [node.path, node]));
    function first(path) {
      return children[path] ? children[path].filter((child) => !child.needs.some((need) => known.has(need))).flatMap((child) => first(child.path)) : [path];
    }
    function last(path) {
      if (!children[path]) return [path];
      const needed = new Set(children[path].flatMap((child) => child.needs));
      return children[path].filter((child) => !needed.has(child.path)).flatMap((child) => last(child.path));
    }
    for (const node of nodes) {
      for (const need of node.needs) {
        if (!known.has(need)) continue;
        const [from, to] = [last(need), first(node.path)];
        // A wide loop on both sides would be a square of edges.
        for (const a of from.slice(0, 12)) for (const b of to.slice(0, 12)) layout.setEdge(a, b);
      }
    }
    dagre.layout(layout);
    const { width, height } = layout.graph();
    const svg = make("svg", { width: Math.ceil(width), height: Math.ceil(height), viewBox: `0 0 ${width} ${height}`, role: "group" });
    const tip = make("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
    tip.append(make("path", { class: "tip", d: "M0 0 L8 4 L0 8 Z" }));
    const definitions = make("defs", {});
    definitions.append(tip);
    svg.append(definitions);
    for (const node of nodes.filter((one) => children[one.path])) svg.append(box(layout.node(node.path), node, true));
    for (const edge of layout.edges()) {
      const points = layout.edge(edge).points;
      svg.append(make("path", { class: "edge", "marker-end": "url(#tip)", d: points.map((point, n) => `${n ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`).join("") }));
    }
    for (const node of nodes.filter((one) => !children[one.path])) svg.append(box(layout.node(node.path), node, false));
    element.querySelector("svg")?.remove();
    element.append(svg);
  });

  function box(place, node, cluster) {
    const link = make("a", { href: node.href, class: `${node.kind}${node.selected ? " selected" : ""}${cluster ? " cluster" : ""}` });
    const [x, y] = [place.x - place.width / 2, place.y - place.height / 2];
    link.append(make("title", {}, [node.path, node.state, node.note].filter(Boolean).join(", ")));
    link.append(make("rect", { x, y, width: place.width, height: place.height, rx: 5 }));
    const top = cluster ? y + 14 : node.note ? y + 18 : place.y + 4;
    link.append(make("text", { class: "sign", x: x + 9, y: top }, node.sign));
    link.append(make("text", { x: x + 26, y: top }, cut(node.name)));
    if (node.note && !cluster) link.append(make("text", { class: "small", x: x + 26, y: top + 16 }, node.note));
    return link;
  }

  // The log is followed as it grows; only its end is kept when it is very long.
  const MOST = 1_500_000;
  part("log", (form) => {
    if (form.dataset.heard) return;
    form.dataset.heard = "yes";
    const shown = document.getElementById(form.dataset.to);
    const search = form.querySelector("input");
    const told = form.querySelector("[role=status]");
    let text = "", waiting = false;
    function draw() {
      waiting = false;
      const atEnd = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 30;
      const wanted = search.value.toLowerCase();
      const lines = wanted ? text.split("\n").filter((line) => line.toLowerCase().includes(wanted)) : null;
      shown.textContent = lines ? lines.join("\n") : text || "It has printed nothing yet.";
      if (lines) told.textContent = `${lines.length} ${lines.length === 1 ? "line" : "lines"}`;
      if (atEnd) shown.scrollTop = shown.scrollHeight;
    }
    function later() {
      if (!waiting) requestAnimationFrame(draw);
      waiting = true;
    }
    search.addEventListener("input", draw);
    form.addEventListener("submit", (event) => event.preventDefault());
    async function follow() {
      const answer = await fetch(`${form.dataset.log}&follow=true`);
      if (!answer.ok) throw new Error(answer.status);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      told.textContent = "following";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        if (text.length > MOST) text = text.slice(text.indexOf("\n", text.length - MOST) + 1);
        later();
      }
      told.textContent = text ? "" : "It has printed nothing.";
      later();
    }
    follow().catch(() => { told.textContent = "The log cannot be followed: load the page again."; });
  });
}

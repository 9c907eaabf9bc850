// The graph of a pipeline: laid out by dagre, group by group; a group unfolds when it is asked to.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const opened = new Set();
const HIGH = 34, HEAD = 26, PAD = 12;

headrace.part("graph", (element) => {
  const root = JSON.parse(document.getElementById("graph-data").textContent);
  element.hidden = false;
  if (!element.dataset.kept) {
    element.dataset.kept = "yes";
    // A group with few tasks is shown with what is inside; loops stay folded.
    const few = root.nodes.length <= 12;
    (function open(node) {
      for (const inner of node.nodes) {
        if (few && inner.nodes.length && inner.nodes.length <= 4 && inner.kind !== "loop") { opened.add(inner.id); open(inner); }
      }
    })(root);
  }
  draw(element, root);
});

function draw(element, root) {
  const picture = arrange(root);
  const svg = make("svg", { width: picture.width, height: picture.height, viewBox: `0 0 ${picture.width} ${picture.height}` });
  paint(svg, picture, () => draw(element, root));
  element.replaceChildren(svg);
}

// The size of a group and the places of what is in it.
function arrange(group) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 34, marginx: PAD, marginy: PAD });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of group.nodes) {
    const inner = node.nodes.length && opened.has(node.id) ? arrange(node) : null;
    const text = node.label;
    const width = Math.max(inner ? inner.width : 0, (node.nodes.length ? 74 : 46) + 6.9 * text.length);
    graph.setNode(node.id, { node, inner, text, width, height: inner ? inner.height + HEAD : HIGH });
  }
  for (const node of group.nodes) for (const before of node.needs) if (graph.hasNode(before)) graph.setEdge(before, node.id);
  dagre.layout(graph);
  const size = graph.graph();
  return { width: Math.ceil(size.width || 2 * PAD), height: Math.ceil(size.height || 2 * PAD),
    nodes: graph.nodes().map((id) => graph.node(id)), edges: graph.edges().map((edge) => graph.edge(edge).points) };
}

function paint(parent, picture, again) {
  for (const points of picture.edges) {
    parent.append(make("polyline", { class: "edge", points: points.map((p) => `${p.x},${p.y}`).join(" ") }));
    const [from, to] = points.slice(-2);
    const angle = Math.atan2(to.y - from.y, to.x - from.x) * 180 / Math.PI;
    parent.append(make("path", { class: "arrow", d: "M-7 -3.5L0 0L-7 3.5Z", transform: `translate(${to.x} ${to.y}) rotate(${angle})` }));
  }
  for (const place of picture.nodes) {
    const { node, inner, text, width, height } = place;
    const x = place.x - width / 2, y = place.y - height / 2;
    const isGroup = node.nodes.length > 0;
    const box = make("g", { class: `node ${node.kind}`, transform: `translate(${x} ${y})` });
    box.append(make("rect", { width, height, rx: isGroup ? 8 : 5 }));
    box.append(words(10, isGroup && inner ? 18 : HIGH / 2 + 4.5, text));
    if (isGroup) {
      const isOpen = Boolean(inner);
      const button = make("g", { class: "fold", role: "button", tabindex: "0", "aria-label": `${isOpen ? "fold" : "unfold"} ${node.label}`, "aria-expanded": String(isOpen) });
      button.append(make("rect", { x: width - 27, y: 5, width: 21, height: 18, rx: 4 }), words(width - 21, 18.5, isOpen ? "−" : "+"));
      const turn = () => { isOpen ? opened.delete(node.id) : opened.add(node.id); again(); };
      button.addEventListener("click", turn);
      button.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); turn(); } });
      box.append(button);
    }
    if (inner) {
      const inside = make("g", { transform: `translate(${(width - inner.width) / 2} ${HEAD})` });
      paint(inside, inner, again);
      box.append(inside);
    }
    parent.append(box);
  }
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
function words(x, y, text) {
  const element = make("text", { x, y });
  element.textContent = text;
  return element;
}

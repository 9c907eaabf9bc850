// The graph of a lineage: laid out from left to right by dagre, drawn as SVG whose nodes are links.
"use strict";

{
  const { part, svg: element } = window.headrace;
  const HEIGHT = 44, PADDING = 12, LONGEST = 30;

  function cut(text) {
    return text.length > LONGEST ? text.slice(0, LONGEST - 1) + "…" : text;
  }
  // Tasks of one name in several runs are told apart by the run.
  function kindOf(node) {
    const run = node.kind === "task" ? ` in ${node.id.slice(5, 13)}` : "";
    return node.kind === "more" ? "" : node.kind.replace("_", " ") + run;
  }
  function path(points) {
    const [first, ...rest] = points;
    let text = `M${first.x},${first.y}`;
    // Through the middles of the bends, so that lines are smooth.
    for (let i = 0; i < rest.length - 1; i++) {
      const x = (rest[i].x + rest[i + 1].x) / 2, y = (rest[i].y + rest[i + 1].y) / 2;
      text += ` Q${rest[i].x},${rest[i].y} ${x},${y}`;
    }
    const last = rest[rest.length - 1];
    return text + ` L${last.x},${last.y}`;
  }
  function laidOut(data) {
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "LR", nodesep: 12, ranksep: 46, marginx: 12, marginy: 12 });
    graph.setDefaultEdgeLabel(() => ({}));
    for (const node of data.nodes) {
      const longest = Math.max(cut(node.label).length * 7.4, kindOf(node).length * 6);
      graph.setNode(node.id, { width: longest + 2 * PADDING, height: HEIGHT });
    }
    for (const edge of data.edges) graph.setEdge(edge.source, edge.target);
    dagre.layout(graph);
    return graph;
  }
  function drawEdge(graph, edge) {
    const line = element("path", { d: path(graph.edge(edge.source, edge.target).points), class: `edge ${edge.by}`, "marker-end": "url(#lineage-arrow)" });
    line.append(element("title", {}, edge.by === "content" ? `${edge.label} (same content)` : edge.label));
    return line;
  }
  function drawNode(place, node, data) {
    const more = node.kind === "more";
    const group = element(more ? "g" : "a", { class: `node ${node.kind}${node.id === data.start ? " start" : ""}`, transform: `translate(${place.x - place.width / 2},${place.y - place.height / 2})` });
    if (!more) group.setAttribute("href", `/lineage?start=${encodeURIComponent(node.id)}&direction=${data.direction}`);
    group.append(
      element("title", {}, `${node.kind.replace("_", " ")} ${node.label}\n${node.detail}`),
      element("rect", { width: place.width, height: place.height, rx: 6 }),
      element("text", { x: PADDING, y: 17, class: "kind" }, kindOf(node)),
      element("text", { x: PADDING, y: more ? 27 : 34 }, cut(node.label)),
    );
    return group;
  }
  function arrow() {
    const marker = element("marker", { id: "lineage-arrow", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
    marker.append(element("path", { d: "M0,0 L8,4 L0,8 z" }));
    const definitions = element("defs", {});
    definitions.append(marker);
    return definitions;
  }

  function draw(area) {
    const data = JSON.parse(document.getElementById("lineage-data").textContent);
    const graph = laidOut(data);
    const { width, height } = graph.graph();
    const picture = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${data.nodes.length} things, ${data.edges.length} links` });
    picture.append(arrow(), ...data.edges.map((edge) => drawEdge(graph, edge)), ...data.nodes.map((node) => drawNode(graph.node(node.id), node, data)));
    area.replaceChildren(picture);
    area.hidden = false;
    const start = graph.node(data.start);
    area.scrollTo(start.x - area.clientWidth / 2, start.y - area.clientHeight / 2);
  }
  part("lineage", draw);
}

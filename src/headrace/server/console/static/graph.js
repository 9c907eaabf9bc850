// The graph of a pipeline or of a run: laid out by dagre, groups that are unfolded around what is in them.
"use strict";

{
  const { part, svg: make } = window.headrace;
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
    const picture = make("svg", { width: Math.ceil(width), height: Math.ceil(height), viewBox: `0 0 ${width} ${height}`, role: "group" });
    const tip = make("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
    tip.append(make("path", { class: "tip", d: "M0 0 L8 4 L0 8 Z" }));
    const definitions = make("defs", {});
    definitions.append(tip);
    picture.append(definitions);
    for (const node of nodes.filter((one) => children[one.path])) picture.append(box(layout.node(node.path), node, true));
    for (const edge of layout.edges()) {
      const points = layout.edge(edge).points;
      picture.append(make("path", { class: "edge", "marker-end": "url(#tip)", d: points.map((point, n) => `${n ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`).join("") }));
    }
    for (const node of nodes.filter((one) => !children[one.path])) picture.append(box(layout.node(node.path), node, false));
    element.querySelector("svg")?.remove();
    element.append(picture);
  });

  function box(place, node, cluster) {
    const link = make(node.href ? "a" : "g", { ...(node.href && { href: node.href }), class: `${node.kind}${node.selected ? " selected" : ""}${cluster ? " cluster" : ""}` });
    const [x, y] = [place.x - place.width / 2, place.y - place.height / 2];
    link.append(make("title", {}, [node.path, node.state, node.note].filter(Boolean).join(", ")));
    link.append(make("rect", { x, y, width: place.width, height: place.height, rx: 5 }));
    const top = cluster ? y + 14 : node.note ? y + 18 : place.y + 4;
    link.append(make("text", { class: "sign", x: x + 9, y: top }, node.sign));
    link.append(make("text", { x: x + 26, y: top }, cut(node.name)));
    if (node.note && !cluster) link.append(make("text", { class: "small", x: x + 26, y: top + 16 }, node.note));
    return link;
  }
}

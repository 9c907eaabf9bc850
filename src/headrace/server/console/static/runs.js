// Runs: two that are ticked are compared; a log is followed.
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

// A log that grows while one looks, and that can be searched.
"use strict";

headrace.part("log", (element) => {
  if (element.dataset.kept) return;
  element.dataset.kept = "yes";
  const text = element.querySelector("pre"), form = element.querySelector("form");
  const search = form.querySelector("input"), told = form.querySelector("output");
  let whole = text.textContent, shown = 0;
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", show);
  function show() {
    const wanted = search.value.toLowerCase();
    const atEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 4;
    if (!wanted) {
      text.textContent = whole;
      told.textContent = "";
    } else {
      const lines = whole.split("\n").filter((line) => line.toLowerCase().includes(wanted));
      text.textContent = lines.join("\n");
      told.textContent = lines.length + (lines.length === 1 ? " line" : " lines");
    }
    if (atEnd && shown !== whole.length) text.scrollTop = text.scrollHeight;
    shown = whole.length;
  }
  text.scrollTop = text.scrollHeight;
  if (element.dataset.live) follow();

  async function follow() {
    const answer = await fetch(element.dataset.src + "&follow=true");
    if (!answer.ok) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    whole = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      whole += value;
      show();
    }
  }
});

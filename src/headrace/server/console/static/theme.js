// Before anything is drawn: the theme that this reader chose; without a choice, the system's.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* storage may be refused; the system's theme then */ }

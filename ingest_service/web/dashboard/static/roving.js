// One stop of the tab key for each strip; the arrow keys go on from there.
const STEPS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

function links(strip) {
  return [...strip.querySelectorAll("a")];
}

function prepare() {
  for (const strip of document.querySelectorAll("[data-roving]")) {
    const all = links(strip);
    const current = all.find((link) => link === document.activeElement) ?? all[0];
    for (const link of all) {
      const stop = link === current ? 0 : -1;
      if (link.getAttribute("tabindex") !== String(stop)) link.setAttribute("tabindex", stop);
    }
  }
}

export function rove() {
  prepare();
  document.addEventListener("fresh", prepare);
  document.addEventListener("keydown", (event) => {
    const strip = event.target.closest?.("[data-roving]");
    const step = STEPS[event.key];
    if (!strip || step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = links(strip);
    const at = Math.max(0, Math.min(all.length - 1, all.indexOf(event.target) + step));
    event.preventDefault();
    event.target.setAttribute("tabindex", -1);
    all[at].setAttribute("tabindex", 0);
    all[at].focus();
  });
}

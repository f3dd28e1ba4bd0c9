"use strict";
// Bounds are rounded so that the words stay true: lower ones down, upper ones up.
const tenths = (count) => count / 10 + " %";
const atLeast = (v) => tenths(Math.floor(1000 * v + 1e-6));
const atMost = (v) => tenths(Math.ceil(1000 * v - 1e-6));

for (const figure of document.querySelectorAll("figure.chart[data-curve]")) {
  const curve = JSON.parse(figure.dataset.curve);
  const svg = figure.querySelector("svg");
  const cross = figure.querySelector(".cross");
  const readout = figure.querySelector(".readout");
  const rest = readout.textContent;
  const width = svg.querySelector(".grid line").x2.baseVal.value;
  const height = Number(cross.querySelector("line").getAttribute("y2"));
  const last = curve.eps.length - 1;
  let at = null;

  const show = (k) => {
    at = Math.max(0, Math.min(last, k));
    const x = (width * at) / last;
    cross.querySelector("line").setAttribute("x1", x);
    cross.querySelector("line").setAttribute("x2", x);
    for (const which of ["attacked", "certified"]) {
      const dot = cross.querySelector("circle." + which);
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", height * (1 - curve[which][at]));
    }
    cross.setAttribute("visibility", "visible");
    readout.textContent = "at eps " + Number(curve.eps[at].toPrecision(3)) + ": " +
      atLeast(curve.certified[at]) + " proved, at most " + atMost(curve.attacked[at]);
  };
  const hide = () => {
    at = null;
    cross.setAttribute("visibility", "hidden");
    readout.textContent = rest;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const view = svg.viewBox.baseVal;
    const x = view.x + ((event.clientX - box.left) / box.width) * view.width;
    show(Math.round((x / width) * last));
  });
  svg.addEventListener("pointerleave", hide);
  figure.addEventListener("blur", hide);
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show((at === null ? Math.round(last / 2) : at) + step);
  });
}

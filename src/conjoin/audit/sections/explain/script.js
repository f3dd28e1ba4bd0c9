"use strict";
const section = document.getElementById("explain");
const buttons = section.querySelectorAll(".tabs button");
for (const button of buttons) {
  button.addEventListener("click", () => {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    for (const thing of section.querySelectorAll("[data-method]:not(button)")) {
      thing.hidden = thing.dataset.method !== button.dataset.method;
    }
  });
}
const overlay = section.querySelector(".overlay");
if (overlay && !section.querySelector(".maps img")) overlay.parentElement.hidden = true;
if (overlay) {
  overlay.addEventListener("change", () => {
    for (const row of section.querySelectorAll(".maps")) {
      const [input, ...maps] = row.querySelectorAll("figure img");
      for (const map of maps) {
        map.parentElement.style.backgroundImage = overlay.checked ? `url(${input.src})` : "";
        map.classList.toggle("over", overlay.checked);
      }
    }
  });
}

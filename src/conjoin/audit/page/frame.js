"use strict";
// A picture is enlarged on a click or by the keyboard, and closed by either or by Escape.
const dialog = document.getElementById("zoom");
for (const image of document.querySelectorAll(".pictures img")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "zoom";
  button.title = "Enlarge";
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const copy = image.cloneNode();
    copy.removeAttribute("style");
    copy.removeAttribute("class");
    const words = document.createElement("p");
    words.textContent = image.alt;
    dialog.querySelector(".body").replaceChildren(copy, words);
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());

// Paper cannot be unfolded: tables and findings are printed open, long rows of pictures as they are.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.example)")];
  for (const details of opened) details.open = true;
});
window.addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});

// Linking into something folded unfolds it.
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
};
window.addEventListener("hashchange", reveal);
reveal();

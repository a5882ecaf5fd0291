"use strict";
// Decisions stay in this page until they are saved as a file.
const cards = [...document.querySelectorAll("article[data-id]")];
const decisions = () => Object.fromEntries(cards.map((card) => [card.dataset.id, card.querySelector("input:checked")?.value])
  .filter(([, decision]) => decision));
function show() {
  const values = Object.values(decisions());
  const accepted = values.filter((value) => value === "accept").length;
  document.getElementById("count").textContent =
    `${accepted} accepted, ${values.length - accepted} rejected, ${cards.length - values.length} open`;
}
function all(value) {
  for (const card of cards) card.querySelector(`input[value=${value}]`).checked = true;
  show();
}
function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(decisions(), null, 1)], { type: "application/json" }));
  link.download = "decisions.json";
  link.click();
}
document.addEventListener("change", show);
document.getElementById("accept-all").addEventListener("click", () => all("accept"));
document.getElementById("reject-all").addEventListener("click", () => all("reject"));
document.getElementById("save").addEventListener("click", save);
show();

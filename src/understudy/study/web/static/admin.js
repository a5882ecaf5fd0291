// Progress by itself; without this script it is as fresh as the page.
"use strict";
const live = document.getElementById("live");
async function refresh() {
  if (document.hidden || live.contains(document.activeElement)) return;
  try {
    const answer = await fetch(live.dataset.source, { credentials: "same-origin" });
    if (answer.ok) live.innerHTML = await answer.text();
  } catch { /* the server is away for a moment */ }
}
if (live) setInterval(refresh, 5000);

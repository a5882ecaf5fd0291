"use strict";
// Whatever a model or a user writes goes into the page as text, never as markup.

const byId = (id) => document.getElementById(id);

function element(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

async function call(path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const key = byId("key").value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  const options = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const response = await fetch(path, options);
  const content = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(content.error ? content.error.message : `the server answered ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return content;
}

function say(text, bad = false) {
  byId("status").textContent = text;
  byId("status").className = bad ? "bad" : "";
}

let known = [];

async function listModels() {
  try {
    known = (await call("/v1/models")).data;
  } catch (error) {
    if (error.status === 401) byId("ask").querySelector("details").open = true;
    say(error.status === 401 ? "This server wants a key; put it in below." : error.message, error.status !== 401);
    return;
  }
  say("");
  byId("run").textContent = known.length ? known[0].owned_by : "";
  const models = byId("models");
  models.querySelectorAll("label").forEach((label) => label.remove());
  for (const model of known) {
    const label = element("label");
    const box = element("input");
    box.type = "checkbox";
    box.value = model.id;
    box.checked = model.id !== "cascade" || known.length === 1;
    label.title = model.understudy.title;
    label.append(box, model.id);
    models.append(label);
  }
}

const words = (text) => text.split(/\s+/).filter(Boolean);

// The number of the first word that differs; -1 where none does.
function parting(answer, other) {
  const [ours, theirs] = [words(answer), words(other)];
  for (let place = 0; place < Math.max(ours.length, theirs.length); place += 1) {
    if (ours[place] !== theirs[place]) return place;
  }
  return -1;
}

function answerText(answer, other) {
  const paragraph = element("p", undefined, "answer");
  if (!answer) {
    paragraph.classList.add("empty");
    paragraph.textContent = "no answer";
    return paragraph;
  }
  const place = other === null ? -1 : parting(answer, other);
  if (place < 0) {
    paragraph.textContent = answer;
    return paragraph;
  }
  const parts = words(answer);
  paragraph.append(parts.slice(0, place).join(" "), place > 0 ? " " : "");
  if (place < parts.length) paragraph.append(element("mark", parts[place]));
  if (place + 1 < parts.length) paragraph.append(` ${parts.slice(place + 1).join(" ")}`);
  return paragraph;
}

function facts(answer, seconds) {
  const list = element("dl");
  const row = (name, value) => list.append(element("dt", name), element("dd", value));
  const kind = answer.calibrated ? "chance of being right" : "confidence, uncalibrated";
  row(kind, answer.confidence === null ? "–" : answer.confidence.toFixed(2));
  row("time", `${Math.round(1000 * seconds)} ms`);
  row("tokens", `${answer.prompt_tokens} read, ${answer.completion_tokens} written`);
  if (answer.cost !== null) row("cost", answer.cost.toPrecision(3));
  if (answer.start !== null) row("stands at", `characters ${answer.start} to ${answer.end}`);
  if (answer.candidates.length) {
    const share = (candidate) => `${candidate.text || "no answer"} ${candidate.probability.toFixed(2)}`;
    row(answer.choice === null ? "likeliest" : "options", answer.candidates.map(share).join(" · "));
  }
  if (answer.finish_reason === "length") row("end", "cut at the longest length");
  const own = answer.understudy;
  if (own.decision) {
    const how = { kept: "the student was sure enough", asked: "the teacher was asked", unavailable: "the teacher could not be asked" };
    row("whose", `${own.source}: ${how[own.decision]}`);
  }
  return list;
}

function thumbs(question, answer) {
  const box = element("div", undefined, "thumbs");
  const send = async (verdict, correction) => {
    const body = { ...question, verdict, answer: answer.answer, model: answer.understudy.source, id: answer.id };
    if (correction) body.correction = correction;
    if (answer.confidence !== null) body.confidence = answer.confidence;
    try {
      await call("/v1/feedback", body);
      box.replaceChildren(element("span", verdict === "up" ? "Kept as right." : "Kept as wrong.", "kept"));
    } catch (error) {
      box.append(element("span", error.message, "bad"));
    }
  };
  const up = element("button", "right");
  const down = element("button", "wrong");
  up.type = down.type = "button";
  up.addEventListener("click", () => send("up"));
  down.addEventListener("click", () => {
    const form = element("form", undefined, "right");
    const input = element("input");
    input.placeholder = "what is right, if you know";
    input.setAttribute("aria-label", "The right answer, if you know it");
    const keep = element("button", "Keep");
    form.append(input, keep);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send("down", input.value.trim());
    });
    box.replaceChildren(form);
    input.focus();
  });
  box.append(up, down);
  return box;
}

function card(model, question, answer, seconds, first) {
  const article = element("article");
  article.append(element("h2", model), answerText(answer.answer, first), facts(answer, seconds));
  if (answer.answer) article.append(thumbs(question, answer));
  return article;
}

async function ask(event) {
  event.preventDefault();
  if (!known.length) await listModels();
  const models = [...byId("models").querySelectorAll("input:checked")].map((box) => box.value);
  if (!models.length) {
    say(known.length ? "Choose whom to ask." : byId("status").textContent, true);
    return;
  }
  const question = { question: byId("question").value };
  if (byId("context").value.trim()) question.context = byId("context").value;
  const choices = byId("choices").value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (choices.length) question.choices = choices;
  const button = byId("ask").querySelector("button[type=submit]");
  button.disabled = true;
  byId("answers").replaceChildren();
  let first = null;
  try {
    // One after the other: side by side they would slow each other down, and the times would say nothing.
    for (const model of models) {
      say(`Asking ${model} …`);
      try {
        const answer = await call("/v1/answer", { ...question, model });
        byId("answers").append(card(model, question, answer, answer.seconds, first));
        if (first === null) first = answer.answer;
      } catch (error) {
        const article = element("article");
        article.append(element("h2", model), element("p", error.message, "bad"));
        byId("answers").append(article);
      }
    }
    say("");
  } finally {
    button.disabled = false;
  }
}

byId("ask").addEventListener("submit", ask);
byId("key").addEventListener("change", listModels);
byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});
listModels();

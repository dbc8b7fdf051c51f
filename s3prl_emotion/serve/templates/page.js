// Sends files to the server and shows the results.
import { card, showError, showResult } from "./cards.js";
import { Microphone } from "./microphone.js";

const AT_ONCE = 2; // uploads at a time
const TRIES = 30; // while the server is busy
const LONGEST_NAME = 120;
const byId = (id) => document.getElementById(id);
const about = await (await fetch("/about")).json();
const waiting = [];
const results = [];
let running = 0;
let frees = [];

function complain(text) {
  byId("complaint").textContent = text;
  byId("complaint").hidden = !text;
}

function tellState() {
  const open = waiting.length + running;
  const failed = results.filter((item) => item.error).length;
  const done = `${results.length - failed} done` + (failed ? `, ${failed} failed` : "");
  byId("state").textContent = open ? `${open} to do; ${done}` : results.length ? done : "";
  byId("tools").hidden = !results.length;
}

const shorter = (name) => (name.length > LONGEST_NAME ? name.slice(0, LONGEST_NAME - 1) + "…" : name);

function take(files) {
  complain("");
  const some = files.slice(0, about.limits.files);
  if (some.length < files.length) complain(`${files.length} files at a time are too many; only the first ${some.length} were added.`);
  const nodes = [];
  for (const file of some) {
    const named = new File([file], shorter(file.name), { type: file.type });
    const made = card(named.name);
    nodes.push(made.node);
    waiting.push({ file: named, ...made });
  }
  byId("cards").prepend(...nodes); // the last files first, in their order
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    predict(waiting.shift()).finally(() => { running -= 1; next(); });
  }
  tellState();
}

async function predict({ file, node, tell }) {
  let result;
  try {
    result = await ask(file, tell);
    if (!result.error) frees.push(showResult(node, file, result, about));
  } catch (error) {
    result = { error: error instanceof TypeError ? "the server cannot be reached; is it still running?" : error.message };
  }
  if (result.error) showError(node, file.name, result.error);
  results.push({ ...result, file: file.name });
}

async function ask(file, tell) {
  if (file.size > about.limits.megabytes * 1e6) {
    return { error: `the file has ${(file.size / 1e6).toFixed(1)} MB; at most ${about.limits.megabytes} MB are allowed` };
  }
  for (let tries = 0; ; tries += 1) {
    tell("in progress …");
    const form = new FormData();
    form.append("file", file);
    const response = await fetch("/predict", { method: "POST", body: form });
    const answer = await response.json();
    if (response.status !== 503 || tries === TRIES) return answer.results ? answer.results[0] : { error: answer.error };
    tell("the server is busy; waiting …");
    await new Promise((resolve) => setTimeout(resolve, 1000 + 1000 * Math.random()));
  }
}

// --- input -----------------------------------------------------------------------------------------------------------

byId("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});

const drop = byId("drop");
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
});

const microphone = new Microphone(about.limits, {
  heard: (time, level) => {
    byId("clock").textContent = time.toFixed(1) + " s";
    byId("level").value = Math.min(1, 1.5 * level);
  },
  ended: (file) => {
    byId("recording").hidden = true;
    byId("record").setAttribute("aria-pressed", "false");
    byId("record").textContent = "Record";
    if (file) take([file]);
  },
});

byId("record").addEventListener("click", async () => {
  complain("");
  if (microphone.isOn) { microphone.stop(); return; }
  byId("record").disabled = true;
  try {
    await microphone.start();
    byId("recording").hidden = false;
    byId("record").setAttribute("aria-pressed", "true");
    byId("record").textContent = "Stop and predict";
  } catch (error) {
    complain(error.message);
  }
  byId("record").disabled = false;
});

// --- saving ----------------------------------------------------------------------------------------------------------

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function cell(value) {
  let text = String(value ?? "");
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text; // or a spreadsheet would execute it
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function table() {
  const header = ["FileName", "start", "end", "prediction", ...about.classes.map((name) => "p_" + name),
    ...about.dimensions.map((name) => name + "_pred"), "error"];
  const row = (file, start, end, values, error) => [file, start, end, values.prediction,
    ...about.classes.map((name) => values.probabilities?.[name]), ...about.dimensions.map((name) => values.dimensions?.[name]), error];
  const rows = results.flatMap((item) => [
    row(item.file, item.error ? "" : 0, item.duration, item, item.error),
    ...(item.windows || []).map((part) => row(item.file, part.start, part.end, part, "")),
  ]);
  return [header, ...rows].map((cells) => cells.map(cell).join(",") + "\n").join("");
}

byId("save-csv").addEventListener("click", () => save("emotions.csv", "text/csv", table()));
byId("save-json").addEventListener("click", () => {
  const predictions = results.map(({ waveform, ...others }) => others);
  save("emotions.json", "application/json", JSON.stringify({ model: about, predictions }, null, 1) + "\n");
});
byId("clear").addEventListener("click", () => {
  for (const free of frees) free();
  frees = [];
  results.length = 0;
  for (const node of [...byId("cards").children]) if (node.dataset.state !== "waiting") node.remove();
  complain("");
  tellState();
});

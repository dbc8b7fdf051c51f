// A card for each file: waiting, done or failed. Text from files is inserted as text, never as markup.
import { bars, circumplex, html, number, percent, seconds, showTime, timeline, waveform } from "./drawing.js";

const MARGIN = 16; // px at each side of a card's content
const NAMES = {
  EmoAct: "activation", EmoVal: "valence", EmoDom: "dominance",
  EmoActStd: "spread of activation", EmoValStd: "spread of valence", EmoDomStd: "spread of dominance",
};

export function card(name) {
  const node = html("li", { class: "card", "data-state": "waiting" });
  const status = html("p", { class: "facts" }, "waiting …");
  node.append(html("div", { class: "top" }, html("h2", {}, name)), status, html("progress", { "aria-label": "in progress" }));
  return { node, tell: (text) => { status.textContent = text; } };
}

function player(node, file, drawings) {
  const address = URL.createObjectURL(file);
  const audio = html("audio", { controls: "", preload: "metadata", src: address });
  audio.setAttribute("aria-label", "Play " + file.name);
  audio.addEventListener("error", () => {
    audio.replaceWith(html("p", { class: "note" }, "This browser cannot play this format."));
  });
  const follow = () => {
    for (const drawing of drawings) if (audio.duration) showTime(drawing, audio.currentTime / audio.duration);
    if (!audio.paused && !audio.ended) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", follow);
  audio.addEventListener("seeked", follow);
  node.append(audio);
  return () => URL.revokeObjectURL(address);
}

function dimensions(result, about) {
  const part = html("div", { class: "dimensions" }, html("h3", {}, "Dimensions"));
  const moments = about.training_labels;
  const notes = [];
  if ("EmoVal" in result.dimensions && "EmoAct" in result.dimensions) {
    const { picture, beyond } = circumplex(result.dimensions, moments, result.windows);
    part.append(picture);
    notes.push("Centre: mean of the training labels; circle: two standard deviations.");
    if (beyond) notes.push("The point lies outside of the drawing.");
    if (result.windows && result.windows.length > 1) notes.push("The line connects successive windows.");
  }
  const list = html("dl", { class: "numbers" });
  for (const [name, value] of Object.entries(result.dimensions)) {
    list.append(html("dt", {}, NAMES[name] || name), html("dd", {}, number(value)),
      html("dd", { class: "beside" }, `training ${number(moments[name].mean)} ± ${number(moments[name].std)}`));
  }
  part.append(list, ...notes.map((text) => html("p", { class: "note" }, text)));
  return part;
}

/** Fills a card with the server's response. Returns a function that frees the player's audio. */
export function showResult(node, file, result, about) {
  node.dataset.state = "done";
  node.replaceChildren();
  const top = html("div", { class: "top" }, html("h2", {}, file.name), html("span", { class: "facts" }, seconds(result.duration)));
  node.append(top);
  if (result.prediction) {
    const share = html("small", {}, " " + percent(result.probabilities[result.prediction]));
    node.append(html("p", { class: "verdict" }, result.prediction, share));
  }
  const drawings = [];
  const width = Math.max(280, node.clientWidth - 2 * MARGIN); // so that text in drawings keeps its size
  const free = player(node, file, drawings);
  const values = html("div", { class: "values" });
  if (result.probabilities) values.append(html("div", { class: "classes" }, html("h3", {}, "Probabilities"), bars(result.probabilities)));
  if (result.dimensions) values.append(dimensions(result, about));
  node.append(values);
  const title = html("h3", {}, "Waveform");
  if (result.attention) title.append(" and ", html("span", { class: "attended" }, "attention"), " (dotted: uniform weights)");
  const wave = waveform(result.waveform, result.attention, result.duration, width);
  drawings.push(wave);
  node.append(title, wave.picture);
  if (result.windows && result.probabilities) {
    const line = timeline(result.windows, about.classes, result.duration, width);
    drawings.push(line);
    node.append(html("h3", {}, "Time line (stronger colour: more probable)"), line.picture);
  }
  if (result.note) node.append(html("p", { class: "note" }, result.note));
  return free;
}

export function showError(node, name, line) {
  node.dataset.state = "failed";
  node.replaceChildren(html("div", { class: "top" }, html("h2", {}, name)), html("p", { class: "error" }, line));
}

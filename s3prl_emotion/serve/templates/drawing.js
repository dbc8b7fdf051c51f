// Drawings of one result, as SVG.
const SPACE = "http://www.w3.org/2000/svg";
const LOCALE = "en";

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export const percent = (value) => (100 * value).toLocaleString(LOCALE, { maximumFractionDigits: 1, minimumFractionDigits: 1 }) + " %";
export const number = (value) => value.toLocaleString(LOCALE, { maximumFractionDigits: 2, minimumFractionDigits: 2 });
export const seconds = (value) => value.toLocaleString(LOCALE, { maximumFractionDigits: 2 }) + " s";

/** Probabilities as bars, the most probable class first. */
export function bars(probabilities) {
  const list = html("dl", { class: "bars" });
  const ranked = Object.entries(probabilities).sort((one, other) => other[1] - one[1]);
  ranked.forEach(([name, value], rank) => {
    const first = rank ? "" : "first";
    const bar = svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "track", width: 100, height: 10 }),
      svg("rect", { class: "bar", width: 100 * value, height: 10 }));
    list.append(html("dt", { class: first }, name), html("dd", { class: first }, bar), html("dd", { class: first }, percent(value)));
  });
  return list;
}

/** Valence and activation in a circle around the training labels' means, two of their standard deviations wide. */
export function circumplex(dimensions, moments, windows) {
  const reach = 80;
  const scaled = (values) => {
    const relative = (name) => (values[name] - moments[name].mean) / (2 * moments[name].std);
    const [x, y] = [relative("EmoVal"), relative("EmoAct")];
    const far = Math.hypot(x, y);
    const shrink = far > 1.15 ? 1.15 / far : 1;
    return { x: 110 + reach * x * shrink, y: 110 - reach * y * shrink, beyond: shrink < 1 };
  };
  const label = (x, y, text, anchor = "middle") => svg("text", { x, y, "text-anchor": anchor }, text);
  const tick = (name, side) => number(moments[name].mean + side * 2 * moments[name].std);
  const point = scaled(dimensions);
  const text = `valence ${number(dimensions.EmoVal)}, activation ${number(dimensions.EmoAct)}`;
  const picture = svg("svg", { viewBox: "-34 0 288 222", class: "circle", role: "img", "aria-label": `Circumplex: ${text}` },
    svg("circle", { class: "rim", cx: 110, cy: 110, r: reach }),
    svg("line", { class: "axis", x1: 110 - reach, y1: 110, x2: 110 + reach, y2: 110 }),
    svg("line", { class: "axis", x1: 110, y1: 110 - reach, x2: 110, y2: 110 + reach }),
    label(110, 12, "active"), label(110, 25, tick("EmoAct", 1)),
    label(110, 206, tick("EmoAct", -1)), label(110, 219, "calm"),
    label(25, 107, "negative", "end"), label(25, 121, tick("EmoVal", -1), "end"),
    label(195, 107, "positive", "start"), label(195, 121, tick("EmoVal", 1), "start"));
  if (windows && windows.length > 1) {
    const line = windows.map((item) => scaled(item.dimensions)).map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`);
    picture.append(svg("polyline", { class: "path", points: line.join(" ") }));
  }
  picture.append(svg("circle", { class: point.beyond ? "point beyond" : "point", cx: point.x, cy: point.y, r: 6 }));
  return { picture, beyond: point.beyond };
}

function timeAxis(picture, duration, { width, top, left }) {
  const rough = duration * 100 / width; // a label every 100 px or more
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * unit).find((value) => value >= rough);
  picture.append(svg("line", { class: "axis", x1: left, x2: width, y1: top, y2: top }));
  for (let time = 0; time <= duration * 1.0001; time += step) {
    const x = left + (width - left) * time / duration;
    const anchor = time === 0 ? "start" : x > width - 25 ? "end" : "middle";
    picture.append(svg("text", { x, y: top + 14, "text-anchor": anchor }, Number(time.toPrecision(6)).toLocaleString(LOCALE) + (time ? "" : " s")));
  }
  picture.append(svg("line", { class: "now", x1: left, x2: left, y1: 0, y2: top, visibility: "hidden" }));
}

/** Moves the line that shows the player's position. */
export function showTime({ picture, width, left }, share) {
  const line = picture.querySelector(".now");
  const x = left + (width - left) * share;
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
  line.setAttribute("visibility", "visible");
}

/** The waveform, and over it the frames' weights relative to uniform weights. */
export function waveform(outline, attention, duration, width) {
  const height = 110;
  const { low, high } = outline;
  const loudest = Math.max(1e-4, ...high.map(Math.abs), ...low.map(Math.abs));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height + 18}`, class: "over-time", role: "img",
    "aria-label": attention ? "Waveform with attention weights" : "Waveform" });
  const x = (index) => (width * index / low.length).toFixed(1);
  const y = (value) => (height / 2 * (1 - 0.94 * value / loudest)).toFixed(1);
  const upper = high.map((value, index) => `${x(index)},${y(value)} ${x(index + 1)},${y(value)}`);
  const lower = low.map((value, index) => `${x(index + 1)},${Number(y(value)) + 0.6} ${x(index)},${Number(y(value)) + 0.6}`).reverse();
  picture.append(svg("polygon", { class: "wave", points: [...upper, ...lower].join(" ") }));
  if (attention) {
    const highest = Math.max(1.2, ...attention);
    const up = (value) => (height * (1 - 0.94 * value / highest)).toFixed(1);
    const step = width / attention.length;
    const steps = attention.map((value, index) => `${(step * index).toFixed(1)},${up(value)} ${(step * (index + 1)).toFixed(1)},${up(value)}`);
    picture.append(
      svg("polygon", { class: "weight-area", points: `0,${height} ${steps.join(" ")} ${width},${height}` }),
      svg("polyline", { class: "weight", points: steps.join(" ") }),
      svg("line", { class: "even", x1: 0, x2: width, y1: up(1), y2: up(1) }));
  }
  timeAxis(picture, duration, { width, top: height, left: 0 });
  return { picture, width, left: 0 };
}

/** Probabilities of the classes in each window, a row per class; a window reaches halfway to its neighbours. */
export function timeline(windows, classes, duration, width) {
  const [row, left] = [20, 90];
  const height = row * classes.length;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height + 18}`, class: "over-time timeline", role: "img",
    "aria-label": `Time line of ${windows.length} windows` });
  const x = (time) => left + (width - left) * time / duration;
  const middle = ({ start, end }) => (start + end) / 2;
  const edges = windows.map((item, index) => (index ? (middle(windows[index - 1]) + middle(item)) / 2 : 0)).concat(duration);
  classes.forEach((name, rank) => {
    const shown = name.length > 13 ? name.slice(0, 12) + "…" : name;
    picture.append(svg("text", { class: "name", x: left - 8, y: row * rank + 14, "text-anchor": "end" }, shown),
      svg("rect", { class: "row", x: left, y: row * rank + 1, width: width - left, height: row - 2 }));
    windows.forEach((item, index) => {
      const [from, to] = [x(edges[index]), x(edges[index + 1])];
      const cell = svg("rect", { class: "cell", x: from, y: row * rank + 1, width: Math.max(0.5, to - from),
        height: row - 2, "fill-opacity": item.probabilities[name].toFixed(3) });
      cell.append(svg("title", {}, `${name} ${percent(item.probabilities[name])}, ${seconds(item.start)} to ${seconds(item.end)}`));
      picture.append(cell);
    });
  });
  timeAxis(picture, duration, { width, top: height, left });
  return { picture, width, left };
}

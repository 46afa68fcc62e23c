"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const FEW = 12;
const by = id => document.getElementById(id);
const root = document.documentElement;
by("theme").onclick = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function shownView(image, view, side) {
  const made = element("img", side + (view === "LQ" ? " pixelated" : ""));
  made.src = image.views[view];
  made.alt = image.name + ", " + view;
  return made;
}

function slider(image, wantedLeft, wantedRight) {
  const [left, right] = [wantedLeft, wantedRight].map(view => view in image.views ? view : data.method);
  const box = element("div", "compare");
  const range = element("input");
  Object.assign(range, { type: "range", min: 0, max: 100, step: 0.5, value: 50 });
  range.setAttribute("aria-label", `${left} on the left, ${right} on the right`);
  const cut = percent => box.style.setProperty("--cut", percent + "%");
  range.oninput = () => cut(range.value);
  range.onpointermove = event => {
    if (event.pointerType !== "mouse") return;
    const place = box.getBoundingClientRect();
    range.value = 100 * (event.clientX - place.left) / place.width;
    cut(range.value);
  };
  const shape = shownView(image, right, "right");
  shape.onload = () => {
    box.style.aspectRatio = `${shape.naturalWidth} / ${shape.naturalHeight}`;
    box.style.setProperty("--ratio", shape.naturalWidth / shape.naturalHeight);
  };
  box.append(shape, shownView(image, left, "left"), element("i"), element("em", "l", left), element("em", "r", right), range);
  return box;
}

const shorten = value => value === null || value === undefined ? "-" : Math.abs(value) < 10 ? value.toFixed(4) : value.toFixed(2);
const scores = (image, method) =>
  data.metrics.map(m => `${m.name} ${shorten((image.scores[method] || {})[m.name])}`).join("   ");

function tile(image) {
  const made = element("article", "tile");
  const bar = element("div", "name");
  const open = element("button", "", "enlarge");
  open.type = "button";
  open.onclick = () => enlarge(image);
  bar.append(element("span", "", image.name), open);
  bar.firstChild.title = image.name;
  made.append(slider(image, by("left").value, by("right").value), bar, element("div", "scores", scores(image, data.method)));
  return made;
}

function order(images) {
  const [metric, direction] = by("order").value.split(":");
  if (!direction) return images.sort((a, b) => a.name.localeCompare(b.name));
  const value = image => image.scores[data.method][metric] ?? Infinity;
  return images.sort((a, b) => direction === "up" ? value(a) - value(b) : value(b) - value(a));
}

function draw() {
  const wanted = by("filter").value.toLowerCase();
  const images = order(data.images.filter(image => image.name.toLowerCase().includes(wanted)));
  const few = by("more").dataset.all ? images : images.slice(0, FEW);
  by("gallery").replaceChildren(...few.map(tile));
  by("more").hidden = few.length === images.length;
  by("count").textContent = `${few.length} of ${images.length} shown`;
}

function enlarge(image) {
  const dialog = by("zoom");
  const stage = dialog.querySelector(".stage");
  const show = (left, right) => stage.replaceChildren(slider(image, left, right));
  dialog.querySelector("b").textContent = image.name;
  dialog.querySelector(".bar .muted").textContent = scores(image, data.method);
  const buttons = data.views.filter(view => view in image.views).map((view, index) => {
    const made = element("button", "", `${index + 1} ${view}`);
    made.type = "button";
    made.onclick = () => show(view, view);
    return made;
  });
  const back = element("button", "", "0 compare");
  back.type = "button";
  back.onclick = () => show(by("left").value, by("right").value);
  dialog.querySelector(".flip").replaceChildren("keys", back, ...buttons);
  dialog.querySelector(".bar button").onclick = () => dialog.close();
  dialog.onkeydown = event => {
    const chosen = event.key === "0" ? back : buttons[Number(event.key) - 1];
    if (chosen) chosen.click();
  };
  show(by("left").value, by("right").value);
  dialog.showModal();
}

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value, false, value === chosen)));
  select.onchange = draw;
}

const views = Object.fromEntries(data.images.map(image => [image.name, image.views]));
document.querySelectorAll("img[data-view]").forEach(img => { img.src = views[img.dataset.image][img.dataset.view]; });

if (by("gallery")) {
  const choices = data.views.map(view => [view, view]);
  options(by("left"), choices, data.views.includes("bicubic") && data.method !== "bicubic" ? "bicubic" : "LQ");
  options(by("right"), choices, data.method);
  const orders = data.metrics.flatMap(m => {
    const [worst, best] = m.higher ? ["up", "down"] : ["down", "up"];
    return [[`${m.name}:${worst}`, `${m.name}, worst first`], [`${m.name}:${best}`, `${m.name}, best first`]];
  });
  options(by("order"), [...orders, ["name", "name"]], orders.length ? orders[0][0] : "name");
  by("filter").oninput = draw;
  by("more").onclick = () => { by("more").dataset.all = "1"; draw(); };
  draw();
}

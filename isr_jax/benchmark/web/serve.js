/* The page knows nothing that the server does not: it asks for the pictures, and shows them. */
const { models, max_blur, max_noise, megabytes, suffixes } = JSON.parse(document.getElementById("data").textContent);
const element = (selector) => document.querySelector(selector);
const viewer = new Viewer(element("#viewer"));
const physics = ["blur", "noise", "jpeg"];
let pictures = new Map(); // by number, as the server has them
let revision = ""; // of these
let shown = null; // number of the picture that is looked at
let yours = {}; // blur, noise and JPEG of that, where they are not as estimated
let drawn = ""; // what of it is on the screen
let toSend = []; // what is to be added
let upload = null; // breaks off what is being added

const sides = (picture) => `${picture.width} × ${picture.height}`;
const busy = (picture) => picture.state === "waiting" || picture.state === "working";
const own = () => models[element("#model").selectedIndex];

function say(text) {
  if (element("#message").textContent !== text) element("#message").textContent = text; // else it is read aloud again
}

/** Asks the server; what it refuses, or that it is gone, is an error of one line. */
async function ask(method, path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { method, ...options });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("The server does not answer; is it still running?");
  }
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `The server answers ${answer.status}.`);
  return answer.status === 204 ? null : answer.json();
}

/** Does something with the server, says what goes wrong, and shows what has changed. */
async function act(...request) {
  try {
    say("");
    await ask(...request);
  } catch (error) {
    say(error.message);
  }
  await refresh();
}

// ---- what the server has ----

let turn = Promise.resolve();
const refresh = () => (turn = turn.then(update)); // one after the other: an older answer must not come last

let silent = false; // whether the server was

async function update() {
  try {
    const answer = await ask("GET", `pictures?known=${revision}`);
    if (silent) say("");
    silent = false;
    if (!answer) return;
    revision = answer.revision;
    const now = Date.now();
    pictures = new Map(answer.pictures.map((each) => [each.number, { ...each, began: now - 1000 * each.seconds }]));
    draw();
  } catch (error) {
    silent = true;
    say(error.message);
  }
}

async function watch() {
  await refresh();
  const all = [...pictures.values()];
  drawList(all); // the seconds
  setTimeout(watch, document.hidden ? 5000 : all.some(busy) ? 300 : 1500);
}

// ---- adding pictures ----

/** Sends files to the server, one at a time, behind those that are being sent: [file, its name with its folders]. */
async function add(files) {
  toSend.push(...files);
  if (upload || !toSend.length) return;
  say("");
  element("#refused").replaceChildren();
  element("#refused").hidden = true;
  let first = true;
  while (toSend.length) {
    const [file, name] = toSend.shift();
    const { signal } = (upload = new AbortController());
    if (toSend.length) element("#count").textContent = `Adding, ${toSend.length + 1} to go …`;
    try {
      if (file.size > megabytes * 2 ** 20) throw new Error(`The file is larger than ${megabytes} MiB.`);
      const query = new URLSearchParams({ name, ...wanted() });
      const { number } = await ask("POST", `pictures?${query}`, {
        headers: { "Content-Type": "application/octet-stream" }, body: file, signal });
      await refresh();
      if (first) choose(number);
      first = false;
    } catch (error) {
      if (error.name !== "AbortError") refuse(`${name}: ${error.message}`);
    }
  }
  upload = null;
  draw();
}

function stopAdding() {
  toSend = [];
  upload?.abort();
}

function refuse(line) {
  const list = element("#refused");
  list.hidden = false;
  list.append(make("li", {}, line));
}

/** Leaves out what is no picture by its name, as folders hold it, and says so. */
function addFolder(files) {
  const visible = files.filter(([, name]) => !name.split("/").some((part) => part.startsWith(".")));
  const readable = ([, name]) => suffixes.some((suffix) => name.toLowerCase().endsWith(suffix));
  const others = visible.filter((file) => !readable(file));
  const added = add(visible.filter(readable));
  if (others.length) {
    const more = others.length > 3 ? ` and ${others.length - 3} more` : "";
    refuse(`No pictures by their names, left out: ${others.slice(0, 3).map(([, name]) => name).join(", ")}${more}`);
  }
  return added;
}

async function filesIn(entry) {
  if (entry.isFile) return [[await new Promise((...done) => entry.file(...done)), entry.fullPath.slice(1)]];
  const reader = entry.createReader();
  const found = [];
  for (;;) { // at most a hundred come at a time
    const some = await new Promise((...done) => reader.readEntries(...done));
    if (!some.length) break;
    found.push(...some);
  }
  found.sort((a, b) => (a.name < b.name ? -1 : 1));
  return (await Promise.all(found.map(filesIn))).flat();
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return add([...transfer.files].map((file) => [file, file.name]));
  try {
    return addFolder((await Promise.all(entries.map(filesIn))).flat());
  } catch (error) {
    say(`The folder cannot be read: ${error.message}`);
  }
}

// ---- what is wanted ----

/** The fields that are for all pictures. */
function wanted() {
  const query = { model: own().name, strength: element("#strength").value };
  if (element("#size").value) query[element("#by").value] = element("#size").value;
  return query;
}

/** Enlarges the picture that is looked at as the fields say. */
function enlarge() {
  const picture = pictures.get(shown);
  if (!picture) return;
  const query = wanted();
  for (const name of physics) if (own()[name] && yours[name] != null) query[name] = yours[name];
  return act("POST", `pictures/${shown}/enlarge?${new URLSearchParams(query)}`);
}

/** Enlarges all pictures by the model and to the size in the fields, each with the blur, noise and JPEG it has. */
async function enlargeAll() {
  for (const picture of [...pictures.values()]) {
    const query = wanted();
    for (const name of physics) if (own()[name] && picture.asked[name]) query[name] = picture.asked[name];
    await act("POST", `pictures/${picture.number}/enlarge?last&${new URLSearchParams(query)}`);
    if (element("#message").textContent) return;
  }
}

/** The scale in whose pixels blurs are told: that of the model which reaches the size. */
function ownScale() {
  const { scales, scale } = own();
  const by = element("#by").value;
  const value = Number(element("#size").value) || (by === "scale" ? scale : 0);
  const { width = 1, height = 1 } = pictures.get(shown) ?? {};
  const factor = value / { scale: 1, width, height, longest: Math.max(width, height) }[by];
  return scales.find((each) => each >= factor) ?? Math.max(...scales);
}

/** Fills the fields for blur, noise and JPEG: with what the user said, else with the estimate, where a model is told it. */
function fill(typing = null) { // the field that is being changed is left alone
  const model = own();
  const by = element("#by");
  element("#size").setAttribute("aria-label", by.value === "scale" ? "Factor" : by.selectedOptions[0].text);
  element("#size").min = by.value === "scale" ? 0 : 1;
  element("#size").placeholder = by.value === "scale" ? model.scale : "";
  element("output[for=strength]").textContent = element("#strength").value;
  const picture = pictures.get(shown);
  const scale = ownScale();
  for (const name of physics) {
    const field = element(`#${name}`);
    const slider = element(`#${name}-slider`);
    field.parentElement.hidden = !model[name];
    if (!picture) continue;
    const { blur, noise, jpeg } = picture.estimate;
    const believed = { blur: blur * scale, noise: model.blur ? noise : "", jpeg: jpeg ?? "" }[name];
    const value = yours[name] ?? (believed === "" ? "" : Math.round(believed * 10) / 10);
    if (name === "blur") slider.max = 2 * scale;
    if (typing !== slider) slider.value = value || 0;
    if (typing !== field && typing !== slider) field.value = value;
    element(`[data-resets=${name}]`).disabled = yours[name] == null;
  }
  if (!picture) return;
  const { words, confidence, remarks } = picture.estimate;
  const note = remarks.length ? ` (${remarks.join("; ")})` : "";
  element("#estimate").textContent = `Taken for: ${words[scale]}, confidence ${Math.round(100 * confidence)} %${note}`;
}

/** Takes blur, noise or JPEG from the user; nothing is as estimated. */
function tell(name, field) {
  const most = { blur: max_blur, noise: max_noise, jpeg: 100 }[name];
  const ranges = { blur: `a width of 0 to ${max_blur} pixels`, noise: `a level of 0 to ${max_noise}`, jpeg: "a quality of 1 to 100" };
  if (!field.checkValidity() || Number(field.value) > most) return say(`The ${name} is ${ranges[name]}.`);
  yours[name] = field.value === "" ? null : String(Math.round(Number(field.value) * 1000) / 1000);
  fill();
  return enlarge();
}

// ---- what is shown ----

/** Looks at a picture; the fields are then those it was enlarged by. */
function choose(number) {
  shown = number;
  const asked = pictures.get(number)?.asked ?? {};
  yours = Object.fromEntries(physics.map((name) => [name, asked[name] ?? null]));
  const index = models.findIndex((model) => model.name === asked.model);
  if (index >= 0) element("#model").selectedIndex = index;
  const by = ["scale", "width", "height", "longest"].find((name) => name in asked) ?? "scale";
  element("#by").value = by;
  element("#size").value = asked[by] ?? "";
  element("#strength").value = asked.strength ?? 1;
  fill();
  draw();
}

function draw() {
  if (!pictures.has(shown) && pictures.size) return choose([...pictures.keys()].pop());
  if (!pictures.size) shown = null;
  const all = [...pictures.values()];
  const done = all.filter((picture) => picture.state === "done").length;
  const failed = all.filter((picture) => picture.state === "failed").length;
  element("#work").hidden = !all.length;
  element("#all").hidden = all.length < 2;
  const count = `${done} of ${all.length} done${failed ? `, ${failed} failed` : ""}`;
  if (!upload && element("#count").textContent !== count) element("#count").textContent = count;
  element("#overall").max = Math.max(1, all.length);
  element("#overall").value = all.filter((picture) => !busy(picture)).length;
  document.title = all.some(busy) ? `(${done}/${all.length}) Super-resolution` : "Super-resolution";
  element("#zip").hidden = !all.some((picture) => picture.result);
  element("#cancel-all").hidden = !upload && !all.some(busy);
  drawList(all);
  fill(document.activeElement);
  const picture = pictures.get(shown);
  if (picture) drawPicture(picture);
}

/** Brings the list up to date; rows stay, and with them the focus. */
function drawList(all) {
  const list = element("#list");
  for (const row of [...list.children]) if (!pictures.has(Number(row.dataset.number))) row.remove();
  for (const picture of all) {
    const row = list.querySelector(`[data-number="${picture.number}"]`) ?? newRow(picture, list);
    const [pick, button] = row.querySelectorAll("button");
    const seconds = Math.round((Date.now() - picture.began) / 1000);
    const words = {
      done: picture.result && `done, ${sides(picture.result)}`, failed: picture.error,
      working: `working, ${picture.share ? `${Math.round(100 * picture.share)} %, ` : ""}${seconds} s` };
    const state = pick.querySelector("span");
    const text = words[picture.state] || picture.state;
    if (state.textContent !== text) state.textContent = text;
    state.className = picture.state;
    pick.setAttribute("aria-current", picture.number === shown);
    const bar = row.querySelector("progress");
    bar.hidden = picture.state !== "working";
    picture.share ? (bar.value = picture.share) : bar.removeAttribute("value"); // without one it only moves
    button.textContent = busy(picture) ? "Cancel" : "Remove";
    button.setAttribute("aria-label", `${button.textContent} ${picture.name}`);
  }
}

function newRow({ number, name }, list) {
  const pick = make("button", { type: "button", class: "pick" }, name, make("span"));
  const button = make("button", { type: "button" });
  pick.addEventListener("click", () => choose(number));
  button.addEventListener("click", async () => {
    if (busy(pictures.get(number))) return act("POST", `pictures/${number}/cancel`);
    const next = row.nextElementSibling ?? row.previousElementSibling;
    await act("DELETE", `pictures/${number}`);
    (next?.querySelector("button") ?? element("#choose")).focus(); // else the keyboard starts again at the top
  });
  const row = make("li", { "data-number": number }, pick, button, make("progress", { "aria-label": `Working on ${name}` }));
  list.append(row);
  return row;
}

function drawPicture(picture) {
  const { number, result } = picture;
  element("#name").textContent = picture.name;
  const facts = element("#facts");
  facts.className = picture.state === "failed" ? "failed" : "";
  const made = result && `${sides(picture)} → ${sides(result)} pixels in ${result.seconds.toFixed(1)} s`;
  const state = { failed: picture.error, working: "Working …", waiting: "Waiting …", cancelled: "Cancelled." }[picture.state];
  const lines = [state, made ?? `${sides(picture)} pixels`, ...(result?.remarks ?? [])];
  facts.textContent = lines.filter(Boolean).join(" · ");
  element("#comparison").setAttribute("aria-busy", busy(picture));
  const now = `${number}/${result?.turn}`;
  if (now === drawn) return;
  if (drawn.split("/")[0] !== String(number)) { // else the same place of another result is looked at
    viewer.reset();
    viewer.split(50);
  }
  drawn = now;
  const before = { source: `pictures/${number}/before`, label: "before" };
  const after = result ? { source: `pictures/${number}/result?turn=${result.turn}`, label: result.label } : before;
  viewer.root.style.setProperty("--ratio", picture.width / picture.height);
  element("#comparison").replaceChildren(comparison(before, after, picture.width, picture.height));
  element("#comparison .handle").hidden = element("input.split").hidden = element("#download").hidden = !result;
  for (const tag of document.querySelectorAll("#comparison .tag")) tag.hidden = !result;
  if (result) Object.assign(element("#download"), { href: after.source, download: result.name.split("/").pop() });
}

// ---- what the user does ----

element("#model").replaceChildren(...models.map(({ name }) => make("option", {}, name)));
element("#blur").max = max_blur;
element("#noise").max = max_noise;
for (const id of ["model", "by", "size", "strength"]) {
  element(`#${id}`).addEventListener("change", () => {
    if (id === "by") element("#size").value = "";
    fill();
    if (id !== "by" || element("#by").value === "scale") enlarge();
  });
}
element("#strength").addEventListener("input", () => fill());
for (const name of physics) {
  const [field, slider] = [element(`#${name}`), element(`#${name}-slider`)];
  field.addEventListener("change", () => tell(name, field));
  slider.addEventListener("input", () => (field.value = Math.round(slider.value * 10) / 10));
  slider.addEventListener("change", () => tell(name, field));
  element(`[data-resets=${name}]`).addEventListener("click", () => { yours[name] = null; fill(); enlarge(); field.focus(); });
}
element("#all").addEventListener("click", enlargeAll);
for (const [button, input] of [["#choose", "#file"], ["#choose-folder", "#folder"]]) {
  element(button).addEventListener("click", () => element(input).click());
  element(input).addEventListener("change", (event) => {
    const files = [...event.target.files].map((file) => [file, file.webkitRelativePath || file.name]);
    event.target.value = "";
    return input === "#folder" ? addFolder(files) : add(files);
  });
}
element("#cancel-all").addEventListener("click", () => { stopAdding(); act("POST", "pictures/cancel"); });
element("#remove-all").addEventListener("click", async () => {
  if (!confirm("Remove all pictures and results from the server?")) return;
  stopAdding();
  await act("DELETE", "pictures");
  element("#choose").focus();
});
const drop = element("#drop");
window.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) window.addEventListener(name, () => drop.classList.remove("over"));
window.addEventListener("drop", (event) => { event.preventDefault(); dropped(event.dataTransfer); });
window.addEventListener("paste", (event) => add([...event.clipboardData.files].map((file) => [file, file.name])));
themeButton(element("#theme"));
element("#in").addEventListener("click", () => viewer.zoomBy(1.5));
element("#out").addEventListener("click", () => viewer.zoomBy(1 / 1.5));
element("#whole").addEventListener("click", () => viewer.reset());
element("input.split").addEventListener("input", (event) => viewer.split(event.target.value));
fill();
watch();

import {element, links} from "./dom.js";

// The list: the form and the headings make the first request, and the pager follows its links.
const filters = document.getElementById("filters");
const range = document.getElementById("range");
const pager = document.querySelectorAll("[data-rel]");
let sort = "id";
let targets = {};
let current;
let latest = 0;

function firstUrl() {
  const query = new URLSearchParams({size: 10, sort});
  const given = new FormData(filters);
  const byCursor = given.get("kind") === "cursor";
  given.delete("kind");
  for (const [name, value] of given) if (value.trim()) query.append(name, value.trim());
  return new URL(`${byCursor ? "works/by-cursor" : "works"}?${query}`, document.baseURI).href;
}

function position({items, page, size, total}) {
  const number = (value) => value.toLocaleString("en");
  if (!items.length) return "No works";
  if (page === undefined) return `${number(items.length)} works on this page`;
  const first = (page - 1) * size + 1;
  return `${number(first)} to ${number(first + items.length - 1)} of ${number(total)}`;
}

async function show(url) {
  const mine = ++latest;
  let page, found, asked;
  try {
    const response = await fetch(url);
    page = await response.json();
    if (!response.ok) throw new Error(page.errors?.map(({loc, msg}) => `${loc.at(-1)}: ${msg}`).join("; ") ?? page.detail);
    found = links(response);
    asked = new URL(url);
  } catch (error) {
    if (mine === latest) range.textContent = `The works could not be loaded: ${error.message}.`;
    return;
  }
  if (mine !== latest) return;  // something else was asked meanwhile
  targets = found;
  current = url;
  const cell = (value, kind) =>
    value === null ? element("td", {class: "null"}, "NULL") : element("td", kind ? {class: kind} : {}, String(value));
  document.getElementById("rows").replaceChildren(...page.items.map((work) => element("tr", {},
    cell(work.id, "number"), cell(work.artist.name), cell(work.title), cell(work.year, "number"),
    cell(work.technique), cell(work.support))));
  for (const heading of document.querySelectorAll("[data-sort]")) {
    const key = heading.dataset.sort;
    heading.setAttribute("aria-sort", sort === key ? "ascending" : sort === `-${key}` ? "descending" : "none");
  }
  const atStart = !("prev" in targets);
  for (const button of pager) {
    const {rel} = button.dataset;
    const leads = rel === "first" ? !atStart : rel === "last" ? "next" in targets && "last" in targets : rel in targets;
    button.hidden = rel === "last" && page.page === undefined;  // a walk does not know its end
    button.setAttribute("aria-disabled", String(!leads));
  }
  range.textContent = position(page);
  document.getElementById("asked").textContent = `GET ${asked.pathname}${asked.search}`;
}

let waiting;
filters.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => show(firstUrl()), 250);
});
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(waiting);
  show(firstUrl());
});
filters.addEventListener("reset", () => {
  sort = "id";
  setTimeout(() => show(firstUrl()));  // when the fields are empty
});
for (const heading of document.querySelectorAll("[data-sort]")) {
  heading.firstElementChild.addEventListener("click", () => {
    sort = sort === heading.dataset.sort ? `-${sort}` : heading.dataset.sort;
    show(firstUrl());
  });
}
for (const button of pager) {
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") !== "true") show(targets[button.dataset.rel]);
  });
}
show(firstUrl());

// Ask again for the works that are shown, since some may have changed.
export function reload() {
  return show(current ?? firstUrl());
}

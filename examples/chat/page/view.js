// Messages and people, as text: nothing that anybody wrote is ever read as HTML.
const KEPT = 500;  // messages in the page

const byId = (id) => document.getElementById(id);
const log = byId("log");
const list = byId("messages");
const times = new Intl.DateTimeFormat([], {hour: "2-digit", minute: "2-digit"});
const dates = new Intl.DateTimeFormat([], {dateStyle: "medium", timeStyle: "short"});

let present = null;
let following = true;

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

export function isAfter(id, other) {
  const [a, b] = [id, other].map((each) => each.split("-").map(Number));
  return (a[0] - b[0] || a[1] - b[1]) > 0;
}

function item({id, time, name, text}, isMine) {
  const made = element("li", isMine ? "mine" : "", "");
  made.dataset.id = id;
  const when = new Date(time);
  const clock = element("time", "", times.format(when));
  clock.dateTime = time;
  clock.title = dates.format(when);
  const words = element("p", "", text);
  words.dir = "auto";
  made.append(element("bdi", "name", name), " ", clock, words);
  return made;
}

// Where it belongs by its id, unless it is there.
function insert(message, isMine) {
  let before = list.lastElementChild;
  while (before && (!before.dataset.id || isAfter(before.dataset.id, message.id))) before = before.previousElementSibling;
  if (before?.dataset.id === message.id) return false;
  const made = item(message, isMine);
  if (before) before.after(made);
  else list.prepend(made);
  while (list.children.length > KEPT) list.firstElementChild.remove();
  byId("empty").hidden = true;
  return true;
}

function isAtEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 40;
}

function toEnd() {
  following = true;
  log.scrollTop = log.scrollHeight;
  byId("newest").hidden = true;
}

export function show(message, isMine) {
  const follow = isMine || following;
  if (!insert(message, isMine)) return;
  if (follow) toEnd();
  else byId("newest").hidden = false;
}

// What is not sent yet.
export function wait(items) {
  const follow = following;
  byId("waiting").replaceChildren(...items);
  byId("waiting-part").hidden = items.length === 0;
  if (follow) toEnd();
}

// What the server has kept. The first time it is not read out.
export function fill(messages, {complete, isMine}) {
  const follow = following;
  const known = list.lastElementChild;
  if (!complete && known) known.after(element("li", "gap", "Some of what was said in between is no longer kept."));
  let isNew = false;
  for (const message of messages) isNew = insert(message, isMine(message)) || isNew;
  byId("empty").hidden = list.children.length > 0;
  list.removeAttribute("aria-busy");
  if (follow) toEnd();
  else if (isNew) byId("newest").hidden = false;
}

export function clear() {
  list.replaceChildren();
  byId("newest").hidden = true;
  byId("empty").hidden = true;
  present = null;
  byId("here").replaceChildren();
}

export function people(names, me) {
  byId("here").replaceChildren(...names.map((name) => {
    const made = element("li", "", "");
    made.append(element("bdi", "", name), name === me ? " (you)" : "");
    return made;
  }));
  const came = present ? names.filter((name) => !present.includes(name)) : [];
  const left = present ? present.filter((name) => !names.includes(name)) : [];
  byId("changes").textContent = [
    came.length ? `${came.join(", ")} came.` : "", left.length ? `${left.join(", ")} left.` : "",
  ].join(" ").trim();
  present = names;
}

log.addEventListener("scroll", () => {
  following = isAtEnd();
  if (following) byId("newest").hidden = true;
});

// What comes between, such as a phone's keyboard, does not take the end away from who reads there.
new ResizeObserver(() => following && toEnd()).observe(log);

byId("newest").addEventListener("click", () => {
  toEnd();
  log.focus();
});

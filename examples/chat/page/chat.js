// The page: who and where one is, what is said, and what waits to be sent.
import {Link} from "./link.js";
import {clear, fill, isAfter, people, show, wait} from "./view.js";

const MAX_WAITING = 5;
const PATIENCE = 10_000;  // milliseconds for the server to answer a message
const RETRY = 5_000;

const byId = (id) => document.getElementById(id);
const link = new Link();
const text = byId("text");
const problem = byId("problem");

let name = "";
let room = "";
let last = null;  // the id of the last message of this room
let waiting = [];  // {ref, room, text}, until the server says that they are said
const inFlight = new Map();  // ref: the timer of its answer
let countdown = null;

// Who reloads the page is still here, and what waits still does. It is this tab's alone.
function save() {
  sessionStorage.setItem("chat", JSON.stringify({name, waiting}));
}

function restore() {
  ({name, waiting} = {name, waiting, ...JSON.parse(sessionStorage.getItem("chat") ?? "{}")});
}

// Joining, leaving, rooms

function join() {
  byId("join").hidden = true;
  byId("chat").hidden = byId("me").hidden = false;
  byId("my-name").textContent = name;
  goTo(room);
  save();
  showWaiting();
  const url = new URL(`ws?${new URLSearchParams({name})}`, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  link.open(url);
  text.focus();
}

function leave(why) {
  byId("join").hidden = false;
  byId("chat").hidden = byId("me").hidden = true;
  const lost = waiting.length;
  link.close(lost ? `${why} Not sent: ${waiting.map((each) => each.text).join(" / ")}` : why);
  waiting = [];
  byId("name").value = name;
  name = "";
  save();
  byId("name").focus();
}

function roomOfPage() {
  const [, found] = location.hash.match(/^#\/([a-z0-9][a-z0-9-]{0,23})$/) ?? [];
  return found ?? "lobby";
}

function goTo(next) {
  room = next;
  last = null;
  clear();
  byId("messages").setAttribute("aria-busy", "true");
  byId("room-title").textContent = room;
  document.title = `${room}: Chat`;
  const here = `#/${room}`;
  if (![...byId("rooms").querySelectorAll("a")].some((each) => each.hash === here)) {
    const item = document.createElement("li");
    const anchor = document.createElement("a");
    anchor.href = here;
    anchor.textContent = room;
    item.append(anchor);
    byId("rooms").append(item);
  }
  for (const each of byId("rooms").querySelectorAll("a")) {
    if (each.hash === here) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}

function enter() {
  link.send({kind: "enter", room, after: last});
}

// What is said

function have(id) {
  if (last === null || isAfter(id, last)) last = id;
}

function heard(message) {
  if (message.room !== room) return;
  show(message, message.name === name);
  have(message.id);
}

const listeners = {
  entered({room: entered, messages, complete, here}) {
    if (entered !== room) return;
    link.settled();
    fill(messages, {complete, isMine: (message) => message.name === name});
    for (const {id} of messages) have(id);
    people(here, name);
    flush();
  },
  said: heard,
  sent({ref, message}) {
    settle(ref);
    heard(message);
  },
  refused({ref, why}) {
    // Without a ref it was not understood, and never will be. Answers come in order.
    const refused = ref ?? inFlight.keys().next().value;
    const message = waiting.find((each) => each.ref === refused);
    if (ref) {
      arrived(ref);
      problem.textContent = `Not sent yet: ${why} It is tried again.`;
      setTimeout(flush, RETRY);
    } else if (message) {
      settle(refused);
      problem.textContent = `Not sent: ${message.text} (${why})`;
    }
  },
  here({room: where, here}) {
    if (where === room) people(here, name);
  },
  "ask-again"() {
    setTimeout(enter, Math.random() * 1_000);  // not all in one moment
  },
};

// What waits

function flush() {
  for (const {ref, room, text} of waiting) {
    if (!inFlight.has(ref) && link.send({kind: "say", room, text, ref})) {
      inFlight.set(ref, setTimeout(() => link.drop(), PATIENCE));
    }
  }
}

function arrived(ref) {
  clearTimeout(inFlight.get(ref));
  inFlight.delete(ref);
}

function settle(ref) {
  arrived(ref);
  waiting = waiting.filter((each) => each.ref !== ref);
  if (!waiting.length) problem.textContent = "";
  save();
  showWaiting();
}

function showWaiting() {
  const items = waiting.map((each) => {
    const item = document.createElement("li");
    item.textContent = each.room === room ? each.text : `${each.text} (to ${each.room})`;
    return item;
  });
  // What is answered at once is not worth a word.
  wait(waiting.some(({ref}) => !inFlight.has(ref)) ? items : []);
}

function newRef() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const said = text.value.trim().toWellFormed?.() ?? text.value.trim();
  if (!said) return;
  if (waiting.length >= MAX_WAITING) {
    problem.textContent = `${MAX_WAITING} messages wait to be sent. This one stays in the field.`;
    return;
  }
  waiting.push({ref: newRef(), room, text: said});
  text.value = "";
  problem.textContent = "";
  save();
  flush();
  showWaiting();
});

text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("say").requestSubmit();
});

addEventListener("beforeunload", (event) => {
  if (waiting.length) event.preventDefault();
});

// How the connection is

link.addEventListener("state", ({detail: {is, why, until, code}}) => {
  if (is !== "connecting") {
    for (const ref of [...inFlight.keys()]) arrived(ref);
  }
  clearInterval(countdown);
  byId("countdown").textContent = "";
  byId("again").hidden = is !== "lost" && !(is === "ended" && name);
  document.body.dataset.state = is;
  if (is === "open") enter();
  else {
    byId("here").replaceChildren();
    showWaiting();
  }
  // A screen reader reads this each time it changes: so not the seconds, nor each attempt.
  if (is === "connecting") byId("countdown").textContent = "Connecting\u2026";
  else byId("state").textContent = is === "open" ? "You are here." : why;
  if (is === "lost") {
    const tick = () => {
      const seconds = Math.max(Math.ceil((until - Date.now()) / 1000), 0);
      byId("countdown").textContent = until ? `Again in ${seconds}\u00a0s.` : "Again when it is online.";
    };
    tick();
    if (until) countdown = setInterval(tick, 1000);
  }
  if (code === 4000) leave(why);
});

link.addEventListener("message", ({detail}) => listeners[detail.kind]?.(detail));

byId("again").addEventListener("click", () => {
  text.focus();
  link.now();
});

byId("leave").addEventListener("click", () => leave("You have left."));

byId("join").addEventListener("submit", (event) => {
  event.preventDefault();
  name = byId("name").value.trim();
  join();
});

byId("other-room").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = `#/${byId("room").value.trim().toLowerCase()}`;
  byId("room").value = "";
});

addEventListener("hashchange", () => {
  const next = roomOfPage();
  if (next === room) return;
  goTo(next);
  showWaiting();
  enter();
});

restore();
room = roomOfPage();
if (name) join();
else byId("name").focus();

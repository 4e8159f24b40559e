import {element} from "./dom.js";
import {api, session} from "./session.js";

const HEADERS = [
  "Allow", "Link", "Location", "Retry-After", "Server-Timing", "WWW-Authenticate", "X-Process-Time", "X-Request-ID",
];
const TOKENS = ["access_token", "refresh_token"];

export class RefusedError extends Error {}

// Of tokens, the beginning is shown.
function shortened(name, value) {
  return TOKENS.includes(name) ? `${value.slice(0, 8)}…` : value;
}

// What a demo does is shown in its card: requests with their answers, and remarks.
export class Output {
  constructor(card) {
    this.card = card;
    this.box = element("div");
    this.status = element("p", {role: "status", class: "spoken"});
    card.append(this.status, this.box);
  }

  clear() {
    this.answers = [];
    this.box.replaceChildren();
    this.status.className = "spoken";
    this.status.textContent = "";
  }

  note(text) {
    this.box.append(element("p", {class: "note"}, text));
  }

  // With `form` or `anonymous`, it is not sent by whoever is signed in.
  async send(method, path, {json, raw, form, anonymous, headers = {}, read} = {}) {
    const body = form ? new URLSearchParams(form) : json === undefined ? raw : JSON.stringify(json);
    const told = form ? Object.entries(form).map(([name, value]) => `${name}=${shortened(name, value)}`).join("&") : body;
    const sent = form || body === undefined ? headers : {"Content-Type": "application/json", ...headers};
    const bySomebody = !form && !anonymous;
    const response = await (bySomebody ? api : fetch)(path, {method, body, headers: sent});
    const shown = bySomebody && session.account ? {...headers, Authorization: "Bearer …"} : headers;
    const block = element("div", {class: "exchange " + (response.ok ? "good" : "bad")});
    const answer = `${response.status} ${response.statusText}`.trim();
    block.append(
      element("p", {}, element("code", {}, `${method} /${path}`)),
      ...Object.entries(shown).map(([name, value]) => element("p", {}, element("code", {}, `${name}: ${value}`))),
      ...(told === undefined ? [] : [element("pre", {role: "group", "aria-label": "Request body"}, told)]),
      element("p", {class: "answer"}, answer),
    );
    const list = element("ul", {"aria-label": "Some of the response's headers"});
    for (const name of HEADERS) {
      const value = response.headers.get(name);
      if (value !== null) list.append(element("li", {}, element("code", {}, `${name}: ${value}`)));
    }
    block.append(list);
    this.box.append(block);
    const text = read ? await read(response) : await response.text();
    let value = text;
    try {
      value = JSON.parse(text);
    } catch { /* not JSON: it is shown as it is */ }
    if (text) {
      const pretty = typeof value === "string" ? value : JSON.stringify(value, shortened, 2);
      block.append(element("pre", {role: "group", "aria-label": "Response body", tabindex: "0"}, pretty));
    }
    this.answers.push(answer);
    if (bySomebody) this.#goOnIfAllowed(response);
    return value;
  }

  // Requests that only support what a card shows are told in a line.
  async quiet(path, {method, json} = {}) {
    const response = await api(path, {
      method, ...(json && {body: JSON.stringify(json), headers: {"Content-Type": "application/json"}}),
    });
    this.#goOnIfAllowed(response);
    return response.status === 204 ? null : response.json();
  }

  // A card that needs a scope cannot show the rest of what it shows.
  #goOnIfAllowed({status}) {
    if ((status === 401 || status === 403) && this.card.querySelector(".needs")) {
      throw new RefusedError(`${status}: sign in as somebody with the scope works:write, and try again.`);
    }
  }

  async total() {
    return (await this.quiet("works?size=1")).total;
  }

  async announced(count) {
    const last = (await this.quiet("demo/announced")).slice(-count);
    this.note(`Announced: ${last.join(" ")}`);
  }

  async records(count, wanted) {
    // A request is recorded when its response is out.
    await new Promise((resolve) => setTimeout(resolve, 100));
    const found = (await this.quiet("demo/requests")).filter(wanted).slice(0, count).reverse();
    const seconds = (value) => (value === null ? "none" : value.toFixed(4));
    const row = (record) => element("tr", {},
      element("td", {}, record.method), element("td", {}, element("code", {}, record.route)),
      element("td", {}, String(record.status)), element("td", {}, record.outcome),
      element("td", {class: "number"}, seconds(record.time_to_first_byte)),
      element("td", {class: "number"}, seconds(record.duration)));
    const names = ["Method", "Route", "Status", "Outcome", "First byte, s", "Duration, s"];
    const table = element("table", {},
      element("caption", {}, "What TimingMiddleware recorded"),
      element("thead", {}, element("tr", {}, ...names.map((name) => element("th", {scope: "col"}, name)))),
      element("tbody", {}, ...found.map(row)));
    this.box.append(element("div", {class: "result"},
      element("div", {class: "scroll", role: "region", tabindex: "0", "aria-label": "Records"}, table)));
  }
}

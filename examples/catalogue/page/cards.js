// What the buttons of the cards do.
import {links, onClick} from "./dom.js";
import {Output, RefusedError} from "./output.js";
import {reload} from "./works.js";

async function demoAccounts(out) {
  const accounts = await out.quiet("demo/accounts");
  if (!accounts) throw new Error("This server has no demo users (CATALOGUE_DEMO).");
  const named = (name) => accounts.users.find(({username}) => username === name);
  return {visitor: named("demo-visitor"), former: named("demo-former"), key: accounts.import_key};
}

const withPassword = ({username, password}) => ({grant_type: "password", username, password});
const withToken = (refresh_token) => ({grant_type: "refresh_token", refresh_token});
const somebody = () => `somebody-${Math.random().toString(36).slice(2, 8)}`;

// Like `Output.send`, without being shown.
async function token(form) {
  const response = await fetch("auth/token", {method: "POST", body: new URLSearchParams(form)});
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error_description ?? answer.detail);
  return answer;
}

async function someArtist(out) {
  return (await out.quiet("works?size=1")).items[0].artist.id;
}

// All of a list, page after page. `between` is called after each page, with its number from 1 on.
async function readAll(path, between) {
  const ids = [];
  for (let url = new URL(path, document.baseURI).href, number = 1; url; number++) {
    const response = await fetch(url);
    ids.push(...(await response.json()).items.map(({id}) => id));
    url = links(response).next;
    if (url) await between(number);
  }
  return ids;
}

const demos = {
  async edit(out, action, {number, title}) {
    const path = `works/${number.value || 0}`;
    if (action === "add") {
      const work = {artist_id: await someArtist(out), title: title.value || null, year: 2026, technique: "Ink"};
      const {id} = await out.send("POST", "works", {json: work});
      if (id) number.value = id;
    } else if (action === "change") {
      await out.send("PATCH", path, {json: {title: title.value || null}});
    } else {
      await out.send("DELETE", path);
    }
    await reload();
  },
  async "one-answer"(out) {
    const {visitor, former} = await demoAccounts(out);
    await out.send("POST", "auth/token", {form: withPassword({username: somebody(), password: "a guess"})});
    await out.send("POST", "auth/token", {form: withPassword({...visitor, password: "a guess"})});
    await out.send("POST", "auth/token", {form: withPassword(former)});
    await token(withPassword(visitor));  // takes back what was counted
  },
  async guessing(out) {
    const guess = {form: withPassword({username: somebody(), password: "a guess"})};
    for (let count = 0; count < 4; count++) await token(guess.form).catch(() => {});
    out.note("Four guesses at one name, and then:");
    await out.send("POST", "auth/token", guess);
    await out.send("POST", "auth/token", guess);
  },
  async reuse(out) {
    const {visitor} = await demoAccounts(out);
    const first = (await token(withPassword(visitor))).refresh_token;
    const tabs = await Promise.all([token(withToken(first)), token(withToken(first))]);
    const [second, other] = tabs.map(({refresh_token}) => refresh_token);
    out.note(`Two tabs exchange one token at once, and get ${second === other ? "the same successor" : "two successors"}.`);
    const third = (await token(withToken(second))).refresh_token;
    out.note("The successor is exchanged in its turn. Then the first comes back, from whoever copied it:");
    await out.send("POST", "auth/token", {form: withToken(first)});
    out.note("And the newest, from its owner:");
    await out.send("POST", "auth/token", {form: withToken(third)});
  },
  async machines(out) {
    const {key} = await demoAccounts(out);
    const work = {tate_id: 2000000000, artist_id: await someArtist(out), title: "Sent by a machine", year: 2026, technique: "Ink"};
    await out.send("POST", "imports", {json: [work], anonymous: true});
    await out.send("POST", "imports", {json: [work], anonymous: true, headers: {"X-API-Key": key}});
    await reload();
  },
  async walk(out) {
    const query = "technique=drypoint&sort=year&size=25";
    const artist_id = await someArtist(out);
    const add = async (year) =>
      (await out.quiet("works", {method: "POST", json: {artist_id, year, technique: "Drypoint"}})).id;
    const remove = (id) => out.quiet(`works/${id}`, {method: "DELETE"});
    for (const path of ["works", "works/by-cursor"]) {
      const before = (await out.quiet(`works?${query}`)).total;
      const added = [];
      let ids;
      try {
        ids = await readAll(`${path}?${query}`, async (number) => {
          // Their year is before the place where the reading is.
          if (number === 1) for (let count = 0; count < 3; count++) added.push(await add(1000));
          if (number === 3) await remove(added.pop());
        });
      } finally {
        for (const id of added) await remove(id);
      }
      const once = new Set(ids).size;
      const answer = `${once} of ${before} works, ${ids.length - once} of them twice`;
      out.answers.push(`GET ${path}: ${answer}`);
      out.note(`GET /${path}?${query}, three works added before the place on the way, and one deleted: ${answer}.`);
    }
  },
  async cursor(out) {
    const {next_cursor} = await out.quiet("works/by-cursor?size=1&sort=year");
    await out.send("GET", `works/by-cursor?size=1&sort=year&cursor=${next_cursor.slice(0, -4)}`);
    await out.send("GET", `works/by-cursor?size=1&sort=year&cursor=${btoa("[2000,1]").replace(/=+$/, "")}`);
    await out.send("GET", `works/by-cursor?size=1&sort=title&cursor=${next_cursor}`);
  },
  async unknown(out) {
    await out.send("GET", "works?artits=hockney");
    await out.send("GET", "works?sort=artist_id");
    await out.send("GET", "works?page=9223372036854775808");
  },
  async "one-body"(out) {
    await out.send("GET", "works/2147483647");
    await out.send("GET", "no/such/path");
    await out.send("PUT", "works/1");
  },
  async password(out) {
    await out.send("POST", "demo/sign-up", {json: {name: "Ada", password: "correct horse battery"}});
  },
  async nan(out) {
    await out.send("POST", "demo/sign-up", {raw: '{"name": NaN, "email": "ada@example.org", "password": "…"}'});
  },
  async own(out) {
    await out.send("GET", "demo/teapot");
    await out.send("POST", "works", {json: {artist_id: 2147483647, year: 2026, technique: "Ink"}});
  },
  async crash(out) {
    await out.send("GET", "demo/crash");
  },
  async "failing-commit"(out) {
    const before = await out.total();
    await out.send("POST", "demo/failing-commit");
    out.note(`Works before: ${before}. Works after: ${await out.total()}.`);
    await out.announced(1);
  },
  async rollback(out) {
    const before = await out.total();
    await out.send("POST", "demo/rollback");
    out.note(`Works before: ${before}. Works after: ${await out.total()}.`);
  },
  async conflict(out) {
    const {artist, tate_id, year, technique} = (await out.quiet("works?size=1")).items[0];
    await out.send("POST", "works", {json: {artist_id: artist.id, tate_id, year, technique}});
  },
  async lifecycle(out) {
    const work = {artist_id: await someArtist(out), title: "Étude", year: 2026, technique: "Ink", support: "paper"};
    const {id} = await out.send("POST", "works", {json: work});
    await out.send("PATCH", `works/${id}`, {json: {title: null, support: "canvas"}});
    await out.send("DELETE", `works/${id}`);
    await out.announced(3);
  },
  async slow(out) {
    const started = performance.now();
    let first;
    await out.send("GET", "demo/slow", {
      async read(response) {
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (let part = await reader.read(); !part.done; part = await reader.read()) {
          first ??= performance.now() - started;
          text += part.value;
        }
        return text;
      },
    });
    const whole = performance.now() - started;
    out.note(`Here the first byte came after ${first.toFixed(0)} ms and the last after ${whole.toFixed(0)} ms.`);
    await out.records(1, (record) => record.route.endsWith("/demo/slow"));
  },
  async labels(out) {
    const {items} = await out.quiet("works?size=2");
    for (const {id} of items) await out.quiet(`works/${id}`);
    for (const path of ["wp-login.php", ".env"]) await out.quiet(path);
    await out.records(4, () => true);
  },
  async ids(out) {
    await out.send("GET", "demo/teapot", {headers: {"X-Request-ID": "chosen-by-the-client"}});
  },
};

for (const card of document.querySelectorAll("[data-demo]")) {
  const out = new Output(card);
  for (const button of card.querySelectorAll("button")) {
    onClick(button, async () => {
      out.clear();
      try {
        await demos[card.dataset.demo](out, button.dataset.action, card.querySelector("form")?.elements);
        out.status.textContent = `${out.answers.join(", ") || "Done"}. Details follow.`;
      } catch (error) {
        out.status.className = "failed";
        out.status.textContent = error instanceof RefusedError
          ? error.message
          : `The request failed: ${error.message}${error instanceof TypeError ? ". Is the server running?" : ""}`;
      }
    });
  }
}

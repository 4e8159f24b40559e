// The form, and who is signed in.
import {element, exclusively, onClick} from "./dom.js";
import {session, signIn, signOut} from "./session.js";

const byId = (id) => document.getElementById(id);
const form = byId("sign-in-form");
const who = byId("who");
const problem = byId("sign-in-problem");

async function enter(username, password) {
  problem.textContent = "";
  try {
    await signIn(username, password);
  } catch (error) {
    problem.textContent = `Not signed in: ${error.message}`;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const {username, password} = Object.fromEntries(new FormData(form));
  exclusively(form.querySelector("button"), () => enter(username, password));
});

onClick(byId("sign-out"), () => signOut());
onClick(byId("sign-out-everywhere"), () => signOut({everywhere: true}));

session.addEventListener("change", ({detail}) => {
  const {account} = session;
  const hadFocus = byId("account").contains(document.activeElement);
  byId("signed-out").hidden = account !== null;
  byId("signed-in").hidden = account === null;
  document.body.dataset.scopes = account?.scopes.join(" ") ?? "";
  if (account === null) {
    who.textContent = `${detail} Nobody is signed in.`.trim();
  } else {
    form.reset();
    const scopes = account.scopes.length ? account.scopes.join(" ") : "none, so may only read";
    const said = `Signed in as ${account.name}. Scopes: ${scopes}.`;
    if (who.textContent !== said) who.textContent = said;  // not told again at each renewal
    byId("renewals").textContent = String(account.renewals);
  }
  // What had the focus may be gone.
  if (hadFocus && document.activeElement?.offsetParent == null) who.focus();
});

async function listDemoUsers() {
  const accounts = await (await fetch("demo/accounts")).json();
  for (const {username, password, scopes, disabled} of accounts?.users ?? []) {
    const button = element("button", {type: "button"}, `Sign in as ${username}`);
    onClick(button, () => enter(username, password));
    const may = disabled ? "disabled" : scopes || "may only read";
    byId("demo-users").append(
      element("li", {}, button, element("span", {}, element("code", {}, password), ` (${may})`)));
  }
}

listDemoUsers().catch(() => {});  // the form does without them

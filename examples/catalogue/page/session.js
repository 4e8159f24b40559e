// Who is signed in. The tokens are kept in this module's memory only: a reload forgets them, and no later
// page can read them.
let tokens = null;
let renewal = null;

// Its `account` is null, or has a name, scopes, and how often the access token was renewed. A "change"
// event tells of another one, and its detail why.
export const session = Object.assign(new EventTarget(), {account: null});

function become(account, why = "") {
  session.account = account;
  session.dispatchEvent(new CustomEvent("change", {detail: why}));
}

function forget(why) {
  tokens = null;
  become(null, why);
}

async function grant(form) {
  const response = await fetch("auth/token", {method: "POST", body: new URLSearchParams(form)});
  const answer = await response.json().catch(() => ({}));
  // It is renewed when a tenth of its time is left.
  if (response.ok) return {...answer, renewAt: Date.now() + 900 * answer.expires_in};
  const wait = response.headers.get("Retry-After");
  const said = answer.error_description ?? answer.detail ?? `The server answers ${response.status}.`;
  throw Object.assign(new Error(wait ? `${said} (${wait} seconds)` : said), {status: response.status});
}

export async function signIn(username, password) {
  tokens = {...await grant({grant_type: "password", username, password}), login: Symbol(username)};
  const response = await api("auth/me");
  if (!response.ok) return forget(`The server answers ${response.status}.`);
  const {sub, scopes} = await response.json();
  become({name: sub, scopes, renewals: 0});
}

export async function signOut({everywhere = false} = {}) {
  const path = everywhere ? "auth/logout?all=true" : "auth/logout";
  const ended = await api(path, {method: "POST"}).then(({ok, status}) => ok || status === 401, () => false);
  const where = everywhere ? "everywhere" : "here";
  forget(ended ? `Signed out ${where}.` : "Forgotten by this page, but the server did not hear of it.");
}

// Of requests that need it at the same time, one exchanges the refresh token.
function renew() {
  renewal ??= exchange().finally(() => {
    renewal = null;
  });
  return renewal;
}

async function exchange() {
  const used = tokens;
  try {
    const next = await grant({grant_type: "refresh_token", refresh_token: used.refresh_token});
    if (tokens !== used) return;  // signed out meanwhile
    tokens = {...next, login: used.login};
    const scopes = next.scope.split(" ").filter(Boolean);
    if (session.account) become({...session.account, scopes, renewals: session.account.renewals + 1});
  } catch (error) {
    if (error.status !== 401) throw error;
    if (tokens === used) forget("The login has ended. Sign in again.");
  }
}

// fetch(), by whoever is signed in. The access token is renewed before it expires, and when it is refused.
export async function api(path, {headers, ...options} = {}) {
  const send = () => fetch(path, {
    ...options, headers: {...headers, ...(tokens && {Authorization: `Bearer ${tokens.access_token}`})},
  });
  if (tokens && Date.now() >= tokens.renewAt) await renew().catch(() => {});  // it is good for a while yet
  const used = tokens;
  const response = await send();
  const refused = response.headers.get("WWW-Authenticate")?.includes('error="invalid_token"');
  if (!used || response.status !== 401 || !refused) return response;
  if (tokens === used) await renew();
  return tokens?.login === used.login ? send() : response;
}

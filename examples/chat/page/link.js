// A WebSocket that comes back by itself. Its events: "open"; "message", with what the server said;
// "state", whose detail has `is` ("connecting", "open", "lost" or "ended"), `why`, a sentence, and
// for "lost" `until`, the time of the next attempt, or null if that is when the device is online.
const SHORTEST = 1_000;  // milliseconds
const LONGEST = 30_000;
const PATIENCE = 10_000;

// IANA's registry of close codes, and the server's own.
const RESTARTS = 1012;
const TRY_AGAIN_LATER = 1013;
const FINAL = new Map([
  [1008, "The server does not go on with this page"],
  [1009, "A message was too long"],
  [4000, "The name is refused"],
]);

function said(code, reason) {
  if (FINAL.has(code)) return reason ? `${FINAL.get(code)}: ${reason}` : `${FINAL.get(code)}.`;
  if (code === RESTARTS) return "The server restarts.";
  if (code !== TRY_AGAIN_LATER) return "The connection is lost.";
  if (reason === "Too slow.") return "The server has closed the connection, because this page read too slowly.";
  return `The server takes nobody in now: ${reason || "try again later."}`;
}

export class Link extends EventTarget {
  #socket = null;
  #timer = null;
  #failures = 0;
  #isLost = false;

  constructor() {
    super();
    // What the device knows is faster than any timer.
    addEventListener("online", () => this.#isLost && this.now());
    addEventListener("offline", () => this.#socket && this.#lost("This device is offline."));
  }

  // Connect at once.
  open(url) {
    this.url = url;
    this.#failures = 0;
    this.now();
  }

  now() {
    this.#forget();
    this.#tell({is: "connecting", why: ""});
    const socket = this.#socket = new WebSocket(this.url);
    this.#timer = setTimeout(() => this.#lost("The server does not answer."), PATIENCE);
    socket.onopen = () => {
      this.#stop();
      this.#tell({is: "open", why: ""});
    };
    socket.onmessage = ({data}) => this.dispatchEvent(new CustomEvent("message", {detail: JSON.parse(data)}));
    socket.onclose = ({code, reason}) => {
      if (FINAL.has(code)) this.close(said(code, reason), code);
      else this.#lost(said(code, reason));
    };
  }

  // It works: not merely opened, which a server that refuses does, too.
  settled() {
    this.#failures = 0;
  }

  // Whether it was handed over. That it arrives is for the server to say.
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  // The server is silent where it should answer: begin again.
  drop() {
    if (this.#socket) this.#lost("The server does not answer.");
  }

  // End, and stay so.
  close(why, code = 1000) {
    this.#forget();
    this.#tell({is: "ended", why, code});
  }

  // Back-off with full jitter: when all have lost the same server, they do not come back in one moment.
  #lost(why) {
    this.#forget();
    this.#isLost = true;
    if (!navigator.onLine) {
      this.#tell({is: "lost", why, until: null});
      return;
    }
    const pause = Math.random() * Math.min(LONGEST, SHORTEST * 2 ** this.#failures);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.now(), pause);
    this.#tell({is: "lost", why, until: Date.now() + pause});
  }

  #forget() {
    this.#stop();
    this.#isLost = false;
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #tell(detail) {
    this.dispatchEvent(new CustomEvent("state", {detail}));
  }
}

// An element with its attributes and children.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// The targets of a Link header (RFC 8288), by their relation.
export function links(response) {
  const found = {};
  for (const [, target, relation] of (response.headers.get("Link") ?? "").matchAll(/<([^>]*)>; rel="(\w+)"/g)) {
    found[relation] = new URL(target, response.url).href;
  }
  return found;
}

// Do `work`, and let the button ask for no more before it is done: it keeps the focus meanwhile.
export async function exclusively(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await work();
  } finally {
    button.setAttribute("aria-disabled", "false");
  }
}

export function onClick(button, work) {
  button.addEventListener("click", () => exclusively(button, work));
}

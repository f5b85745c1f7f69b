// Asks the service's API; addresses are relative, so that it works behind a path prefix.
const BASE = new URL("../", document.baseURI);
const KEY = "thick-key";
// Told to the document whenever the service asks for a key, or for another one.
export const REFUSED = "key-refused";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

export const address = (path) => new URL(path, BASE).href;

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? `the service answered ${status}`);
    this.status = status;
    this.code = body?.code;
    this.body = body ?? {};
  }
}

// What is about one session or dream goes to one replica of a cluster.
const ABOUT = /^v1\/(?:sessions|dreams)\/([\w.-]+)/;

function headers(path, more = {}) {
  const made = new Headers(more);
  const about = ABOUT.exec(path);
  if (about) made.set("X-Session-Id", about[1]);
  if (key.get()) made.set("Authorization", `Bearer ${key.get()}`);
  return made;
}

async function failed(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    /* not a problem of the service's own */
  }
  const problem = new Problem(response.status, body);
  if (["unauthenticated", "forbidden"].includes(problem.code)) document.dispatchEvent(new Event(REFUSED));
  return problem;
}

// What a browser says of a service that is not there differs, and says little.
async function reach(path, options) {
  try {
    return await fetch(address(path), options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Error("The service cannot be reached.");
  }
}

export async function ask(method, path, body, { accept = "application/json", signal } = {}) {
  const response = await reach(path, {
    method,
    signal,
    headers: headers(path, { Accept: accept, ...(body === undefined ? {} : { "Content-Type": "application/json" }) }),
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) throw await failed(response);
  if (response.status === 204) return null;
  return accept === "application/json" ? response.json() : response.blob();
}

// Server-sent events. EventSource cannot send a key, so the stream is read here; it goes on after a broken connection.
export async function follow(path, told, signal) {
  let last = null;
  while (!signal.aborted) {
    try {
      const response = await reach(path, {
        signal,
        headers: headers(path, { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) }),
      });
      if (!response.ok) throw await failed(response);
      told({ name: "open" });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        let end;
        while ((end = text.indexOf("\n\n")) >= 0) {
          const event = parse(text.slice(0, end));
          text = text.slice(end + 2);
          if (!event) continue;
          last = event.id ?? last;
          told(event);
          if (event.name === "end") return;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status < 500) throw error;
      told({ name: "lost", data: { reason: error.message } });
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function parse(block) {
  const event = { name: "message", data: null };
  const lines = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    else if (line.startsWith("id: ")) event.id = line.slice(4);
    else if (line.startsWith("data: ")) lines.push(line.slice(6));
  }
  if (!lines.length) return null;
  event.data = JSON.parse(lines.join("\n"));
  return event;
}

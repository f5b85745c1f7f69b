// The model as an environment, to play: every step can be taken back, since the same seed and actions dream the same.
import { ask } from "./api.js";
import { el, facts, number, picture, shown } from "./draw.js";

const INCLUDE = ["picture", "value", "gates"];
const ARROWS = { ArrowLeft: 0, ArrowRight: 1, ArrowUp: 2, ArrowDown: 3 };
const WAITING = 6; // so many keys and clicks wait while one is being answered; more are refused

export async function dream(view, say, signal, query) {
  const { models } = await ask("GET", "v1/models", undefined, { signal });
  const ready = models.filter((model) => model.state === "ready");
  const from = query.get("session"), other = query.get("dream");
  const select = el("select", { id: "dream-model" }, ready.map((model) => el("option", { value: model.name }, model.name)));
  const seed = el("input", { id: "dream-seed", type: "number", min: 0, step: 1, placeholder: "any", value: Math.floor(Math.random() * 1e6), size: 8 });
  const sample = el("input", { id: "dream-sample", type: "checkbox", checked: !from });
  const source = from ? { session_id: from } : other ? { dream_id: other } : null;
  const begin = el("button", { type: "button", class: "primary" }, "Begin");
  const stage = el("div");
  view.append(
    el("h1", {}, "Dream"),
    el("form", { class: "card row", "aria-label": "What to dream" },
      source
        ? el("span", {}, `from ${from ? "session" : "dream"} `, el("span", { class: "mono" }, (from ?? other).slice(0, 10)))
        : el("span", { class: "row" }, el("label", { for: "dream-model" }, "Model"), select),
      el("label", { for: "dream-seed" }, "Seed"), seed,
      el("label", { for: "dream-sample" }, "Draw what comes"), sample, begin),
    stage);
  let played = null;
  const start = async () => {
    if (begin.disabled) return; // Enter in a field, while a dream is being made
    try {
      begin.disabled = true;
      const before = played;
      played = null;
      stage.replaceChildren(); // what is about to be deleted cannot be played
      await before?.end();
      const asked = { seed: numbered(seed), sample: sample.checked, include: ["picture"], ttl_s: 1800 };
      const made = await ask("POST", "v1/dreams", { ...asked, ...(source ?? { model: select.value }) });
      played = new Played(stage, say, made);
      if (signal.aborted) await played.end(); // the page was left before it began
    } catch (error) {
      stage.replaceChildren(el("p", { class: "card", role: "alert" }, error.message));
    } finally {
      begin.disabled = false;
    }
  };
  begin.addEventListener("click", start);
  view.querySelector("form").addEventListener("submit", (event) => (event.preventDefault(), start()));
  document.addEventListener("keydown", (event) => played?.pressed(event), { signal });
  signal.addEventListener("abort", () => played?.end());
  if (ready.length) await start();
  else stage.append(el("p", { class: "card" }, "No model is ready."));
}

class Played {
  constructor(stage, say, made) {
    Object.assign(this, { stage, say, id: made.dream_id, about: made, seed: made.seed, waiting: [], busy: false, ended: false });
    this.frames = [{ picture: made.picture[0], action: null, reward: 0, terminated: false }];
    this.screen = el("div");
    this.figures = el("div");
    this.strip = el("div", { class: "strip", tabindex: "0", "aria-label": "What was dreamt so far" });
    this.forks = el("p", { "aria-label": "Forks" });
    this.jumps = el("div", { class: "scroll", tabindex: "0", "aria-label": "What could happen next" });
    this.back = el("button", { type: "button", "aria-keyshortcuts": "Backspace", onclick: () => this.takeBack() }, "Back");
    const buttons = el("div", { class: "row" }, this.back,
      el("button", { type: "button", onclick: () => this.anew() }, "Begin anew"),
      el("button", { type: "button", onclick: () => this.fork() }, "Fork"),
      el("button", { type: "button", onclick: () => this.film() }, "Save as GIF"));
    stage.replaceChildren(el("div", { class: "split" },
      el("div", { class: "card" }, this.screen, this.figures),
      el("div", { class: "stack" },
        el("section", { class: "card" }, el("h2", {}, "Act"), this.actions(), buttons),
        el("section", { class: "card" }, el("h2", {}, "So far"), this.strip, this.forks),
        el("section", { class: "card" }, el("h2", {}, "What could happen next?"), this.questions(), this.jumps))));
    this.draw();
  }

  actions() {
    const space = this.about.action_space;
    if (space.type === "Discrete") {
      return el("div", { class: "keys", role: "group", "aria-label": "Actions" },
        Array.from({ length: space.n }, (_, index) => {
          const hint = index < 10 ? String((index + 1) % 10) : "";
          return el("button", { type: "button", "data-action": index, "aria-keyshortcuts": hint || null, onclick: () => this.step(index + (space.start ?? 0)) },
            String(index + (space.start ?? 0)), el("kbd", {}, hint ? `key ${hint}` : ""));
        }));
    }
    const count = space.type === "Box" ? space.shape.reduce((size, side) => size * side, 1) : (space.nvec ?? []).flat(9).length;
    this.sliders = Array.from({ length: count }, (_, index) => {
      const [low, high, unit] = space.type === "Box" ? [bound(space.low, index), bound(space.high, index), "any"] : [0, space.nvec.flat(9)[index] - 1, 1];
      return el("input", { type: "range", min: low, max: high, step: unit, value: (low + high) / 2, "aria-label": `action ${index}` });
    });
    return el("div", { class: "row" }, this.sliders,
      el("button", { type: "button", class: "primary", onclick: () => this.step(this.chosen()) }, "Step"),
      el("span", { class: "soft" }, "← and → step with the first at its ends"));
  }

  chosen() {
    return nested(this.sliders.map((slider) => Number(slider.value)), this.about.action_space.shape);
  }

  questions() {
    const all = el("button", { type: "button", onclick: () => this.jump({ policy: "all", horizon: 1 }) }, "Every high-level action");
    const ahead = el("button", { type: "button", onclick: () => this.jump({ level: "low", policy: "prior", horizon: 6, rollouts: 3 }) }, "Six random steps");
    this.each = el("span", { class: "keys" });
    return el("div", { class: "row" }, all, ahead, this.each);
  }

  async jump(asked) {
    await this.doing(async () => {
      const body = { level: "high", ...asked };
      const sheet = await ask("POST", `v1/dreams/${this.id}/imagine`, body, { accept: "image/png" });
      if (asked.policy === "all" && !this.each.children.length) {
        const told = await ask("POST", `v1/dreams/${this.id}/imagine`, { ...body, include: [] });
        this.each.replaceChildren(...told.rollouts.map((_, action) =>
          el("button", { type: "button", onclick: () => this.jump({ actions: [action] }) }, `Jump A${action}`)));
      }
      this.jumps.replaceChildren(el("img", { src: await uri(sheet), alt: asked.actions ? `where high-level action ${asked.actions[0]} leads` : "what could happen next", class: "sheet" }));
    });
  }

  step(action) {
    return this.doing(async () => {
      if (this.frames.at(-1).terminated) throw new Error("The episode has ended: go back, or begin anew.");
      await this.take(action);
      this.draw();
    });
  }

  async take(action) {
    const made = await ask("POST", `v1/dreams/${this.id}/step`, { actions: [action], step: this.frames.length - 1, include: INCLUDE });
    this.frames.push({
      picture: made.picture[0], action, reward: made.reward[0], continuation: made.continuation[0], terminated: made.terminated[0],
      value: made.value?.[0] ?? null, gates: made.gates_open[0], changed: made.context_changed[0],
    });
  }

  // Without a step: one back from where the dream is when its turn comes.
  takeBack(to, seed) {
    return this.doing(async () => {
      const end = to ?? this.frames.length - 2;
      if (end < 0) return;
      const actions = this.frames.slice(1, end + 1).map((frame) => frame.action);
      this.seed = seed ?? this.seed;
      const made = await ask("POST", `v1/dreams/${this.id}/reset`, { seed: this.seed, include: ["picture"] });
      this.frames = [{ picture: made.picture[0], action: null, reward: 0, terminated: false }];
      try {
        for (const action of actions) await this.take(action);
      } finally {
        this.draw();
      }
    });
  }

  anew() {
    return this.takeBack(0, Math.floor(Math.random() * 1e9));
  }

  async fork() {
    await this.doing(async () => {
      const made = await ask("POST", `v1/dreams/${this.id}/fork`, {});
      this.forks.append(el("a", { href: `#/dream?dream=${made.dream_id}`, target: "_blank", rel: "opener" }, `fork at step ${this.frames.length - 1}`), " ");
      this.say(`A second dream in this state: ${made.dream_id}`);
    });
  }

  async film() {
    await this.doing(async () => {
      const frames = this.frames.map((frame) => frame.picture);
      const made = await ask("POST", "v1/film", { frames, ms: 300 }, { accept: "image/gif" });
      const link = el("a", { href: await uri(made), download: `dream-${this.id.slice(0, 8)}.gif` });
      document.body.append(link);
      link.click();
      link.remove();
    });
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea, dialog")) return; // they use keys themselves
    const space = this.about.action_space;
    if (event.key === "Backspace") {
      event.preventDefault();
      if (event.repeat && this.busy) return; // as below
      this.takeBack();
    } else if (space.type === "Discrete") {
      const index = /^[0-9]$/.test(event.key) ? (Number(event.key) + 9) % 10 : ARROWS[event.key];
      if (index === undefined || index >= space.n) return;
      event.preventDefault();
      if (event.repeat && this.busy) return; // a key held down goes as fast as the model does, and stops when it is let go
      this.step(index + (space.start ?? 0));
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      if (event.repeat && this.busy) return;
      const slider = this.sliders[0];
      slider.value = event.key === "ArrowLeft" ? slider.min : slider.max;
      this.step(this.chosen());
    }
  }

  // One thing after the other, in the order of keys and clicks. What fails takes what waits for it along.
  async doing(work) {
    if (this.waiting.length >= WAITING) {
      return this.say(`Not taken: ${WAITING} keys and clicks wait for the service already.`);
    }
    this.waiting.push(work);
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.length && !this.ended) {
      try {
        await this.waiting.shift()();
      } catch (error) {
        const lost = this.waiting.splice(0).length;
        if (!this.ended) this.say(error.message + (lost ? ` What waited was not done (${lost}).` : ""));
      }
    }
    this.busy = false;
  }

  draw() {
    const frame = this.frames.at(-1), total = this.frames.reduce((sum, each) => sum + each.reward, 0);
    this.screen.replaceChildren(picture(frame.picture, `what is dreamt at step ${this.frames.length - 1}`));
    this.figures.replaceChildren(facts([
      ["step", String(this.frames.length - 1)], ["reward", number(frame.reward)], ["sum of rewards", number(total)],
      ["goes on", frame.continuation === undefined ? "–" : `${(100 * frame.continuation).toFixed(1)} %`],
      ["value", number(frame.value)], ["gates open", number(frame.gates)], ["seed", String(this.seed)],
    ]), frame.terminated ? el("p", { class: "badge bad" }, "the episode has ended") : frame.changed ? el("p", { class: "badge hot" }, "the context changed") : "");
    this.back.disabled = this.frames.length < 2;
    this.strip.replaceChildren(...this.frames.slice(-24).map((each, index, all) => {
      const at = this.frames.length - all.length + index;
      return el("figure", { class: `${each.changed ? "changed" : ""} ${each === frame ? "current" : ""}` },
        el("button", { type: "button", "aria-label": `return to step ${at}`, title: "go back here", onclick: () => this.takeBack(at) },
          el("img", { src: each.picture, alt: `step ${at}` })),
        el("figcaption", {}, each.action === null ? "start" : `${at}: ${shown(each.action)}`));
    }));
    this.strip.scrollLeft = this.strip.scrollWidth;
    this.jumps.replaceChildren();
  }

  async end() {
    this.ended = true;
    try {
      await ask("DELETE", `v1/dreams/${this.id}`);
    } catch {
      /* it expires by itself */
    }
  }
}

// What a field of numbers says; undefined where it is empty.
function numbered(field) {
  if (field.value === "" && !field.validity.badInput) return undefined;
  const value = field.value === "" ? NaN : Number(field.value);
  if (Number.isNaN(value) || Math.abs(value) > Number.MAX_SAFE_INTEGER) throw new Error("seed: expected a whole number below 2^53, or none");
  return value;
}

const bound = (bounds, index) => (Array.isArray(bounds) ? bounds.flat(9)[index] : bounds) ?? 0;

function nested(values, shape) {
  if (!shape || shape.length < 2) return values;
  const rows = shape[0], size = values.length / rows;
  return Array.from({ length: rows }, (_, row) => nested(values.slice(row * size, (row + 1) * size), shape.slice(1)));
}

const uri = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

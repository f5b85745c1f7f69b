// Elements, and small pictures in SVG. Text is always set as text.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

export const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const number = (value, digits = 3) =>
  value === null || value === undefined ? "–" : Number.isInteger(value) ? String(value) : value.toFixed(digits);
export const shown = (action) =>
  Array.isArray(action) ? `[${action.map((part) => number(part, 2)).join(", ")}]` : action?.data !== undefined ? "array" : String(action);

export const facts = (entries) =>
  el("dl", { class: "facts" }, entries.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

export function picture(source, text, attributes = {}) {
  return source
    ? el("img", { src: source, alt: text, class: "frame", ...attributes })
    : el("div", { class: "frame", role: "img", "aria-label": "no picture" });
}

// Open gates as bars over steps; a context change is marked, and so is a reward.
export function gateChart(acts) {
  const width = 640, height = 110, last = acts.slice(-80);
  const most = Math.max(1, ...last.map((act) => act.gates?.open ?? 0));
  const room = (width - 30) / Math.max(last.length, 20);
  const marks = last.map((act, index) => {
    const open = act.gates?.open ?? 0, x = 26 + index * room, tall = (open / most) * 62;
    return [
      svg("rect", { class: act.gates?.changed ? "change" : "gate", x, y: 80 - tall, width: Math.max(1, room - 1.5), height: tall },
        svg("title", {}, `step ${act.step}: ${open} gates open, reward ${number(act.reward)}`)),
      act.reward ? svg("circle", { class: "reward", cx: x + room / 2, cy: 10, r: 4 }) : null,
      act.is_first ? svg("line", { class: "axis", x1: x, x2: x, y1: 2, y2: 84 }) : null,
    ];
  });
  const changes = last.filter((act) => act.gates?.changed).map((act) => act.step);
  const about = `Open gates over the last ${last.length} steps. The context changed at ${changes.length ? `steps ${changes.join(", ")}` : "no step"}.`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": about, class: "chart" },
    svg("line", { class: "axis", x1: 24, x2: width, y1: 80, y2: 80 }), marks,
    svg("text", { x: 0, y: 22, class: "faint" }, String(most)), svg("text", { x: 0, y: 84, class: "faint" }, "0"),
    svg("text", { x: 26, y: 102, class: "faint" }, last.length ? `step ${last[0].step}` : "no act yet"),
    last.length > 1 ? svg("text", { x: width - 4, y: 102, "text-anchor": "end", class: "faint" }, `step ${last.at(-1).step}`) : null);
}

// What the high-level search found: each first jump with its visits and value, and the path that was chosen.
export function planTree(high) {
  const visits = high.visits?.length ? high.visits : high.values.map(() => 0);
  const total = Math.max(1, visits.reduce((sum, count) => sum + count, 0));
  const chosen = high.actions[0], path = high.actions.slice(1);
  const tall = 46, height = Math.max(visits.length * tall + 10, 70), middle = height / 2;
  const width = 250 + path.length * 110;
  const parts = [];
  visits.forEach((count, action) => {
    const y = 28 + action * tall, best = action === chosen;
    parts.push(
      svg("path", { class: `edge${best ? " chosen" : ""}`, d: `M40 ${middle} C85 ${middle} 85 ${y} 130 ${y}`, "stroke-width": 1.5 + 7 * (count / total) }),
      svg("circle", { class: `node${best ? " chosen" : ""}`, cx: 146, cy: y, r: 15 }),
      svg("text", { x: 146, y: y + 4, "text-anchor": "middle" }, `A${action}`),
      svg("text", { x: 168, y: y - 3, class: "faint" }, `${count} visits`),
      svg("text", { x: 168, y: y + 11 }, `value ${number(high.values?.[action])}`));
    if (best) {
      path.forEach((next, index) => {
        const x = 270 + index * 110;
        parts.push(
          svg("path", { class: "edge chosen", d: `M${x - (index ? 80 : 35)} ${y} L${x - 16} ${y}`, "stroke-width": 2 }),
          svg("circle", { class: "node chosen", cx: x, cy: y, r: 15 }),
          svg("text", { x, y: y + 4, "text-anchor": "middle" }, `A${next}`),
          svg("text", { x, y: y + 29, "text-anchor": "middle", class: "faint" }, `${number(high.durations?.[index + 1], 1)} steps`));
      });
    }
  });
  const about = `Search over jumps: ${visits.map((count, action) => `action ${action}: ${count} visits, value ${number(high.values?.[action])}`).join("; ")}. Chosen: ${high.actions.join(", then ")}.`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": about, class: "tree" },
    parts, svg("circle", { class: "node", cx: 24, cy: middle, r: 16 }), svg("text", { x: 24, y: middle + 4, "text-anchor": "middle" }, "now"));
}

const PHASES = ["decode_ms", "queue_ms", "observe_ms", "high_plan_ms", "low_plan_ms", "store_ms"];

export function timing(times) {
  const parts = PHASES.filter((name) => times?.[name] > 0);
  const whole = parts.reduce((sum, name) => sum + times[name], 0);
  if (!whole) return el("p", { class: "soft" }, "no times yet");
  const name = (phase) => phase.replace("_ms", "").replace("_", " ");
  const bar = el("div", { class: "bar", role: "img", "aria-label": parts.map((phase) => `${name(phase)} ${number(times[phase], 1)} ms`).join(", ") },
    parts.map((phase) => {
      const part = el("span", { class: `p${PHASES.indexOf(phase)}` });
      part.style.width = `${(100 * times[phase]) / whole}%`;
      return part;
    }));
  return el("div", {}, bar, el("div", { class: "legend" },
    parts.map((phase) => el("span", {}, el("i", { class: `p${PHASES.indexOf(phase)}` }), `${name(phase)} ${number(times[phase], 1)} ms`))));
}

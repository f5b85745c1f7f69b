// What is served, where it comes from, how it plans, and how to ask it.
import { address, ask, key } from "./api.js";
import { el, facts, number } from "./draw.js";

export async function models(view, say, signal) {
  const { models: found } = await ask("GET", "v1/models", undefined, { signal });
  view.append(el("h1", {}, "Models"));
  const names = [...new Set(found.map((model) => model.name))];
  const cards = await Promise.all(names.map(async (name) => card(await ask("GET", `v1/models/${encodeURIComponent(name)}`, undefined, { signal }))));
  view.append(el("div", { class: "grid" }, cards));
}

function card(model) {
  const mine = key.get() ? ` -H "Authorization: Bearer $THICK_API_KEY"` : ""; // the Python client reads that variable, too
  const runtime = model.runtime ?? {}, results = model.provenance?.results;
  return el("section", { class: "card", "aria-label": `model ${model.name}` },
    el("div", { class: "row" }, el("h2", {}, `${model.name} ${model.version}`), el("span", { class: `badge ${model.state === "ready" ? "good" : "bad"}` }, model.state)),
    el("p", { class: "soft" }, model.provenance?.description ?? ""),
    model.reason ? el("p", { class: "badge bad" }, model.reason) : null,
    facts([["kind", model.kind], ["task", model.task ?? "–"], ["sees", space(model.observation_space)], ["does", space(model.action_space)],
      ["runtime", [runtime.backend, runtime.instructions].filter(Boolean).join(", ") || "–"], ["updates", number(model.provenance?.updates)]]),
    results ? measured(results) : null,
    el("details", {}, el("summary", {}, "How it plans"),
      el("table", {}, el("tbody", {}, Object.entries(model.planner ?? {}).map(([name, value]) =>
        el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(value))))))),
    el("details", {}, el("summary", {}, "Where it comes from"), el("pre", {}, JSON.stringify(model.provenance ?? {}, null, 1))),
    snippet("curl", `curl -s ${address("v1/sessions")} -H 'Content-Type: application/json'${mine} -d '{"model": "${model.name}"}'`),
    snippet("Python", `from clients import PlanningClient\n\nwith PlanningClient("${address("").replace(/\/$/, "")}") as client, client.session("${model.name}") as session:\n    action = session.act(observation)`));
}

function measured(results) {
  const rows = Object.entries(results.methods ?? {});
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ["measured", "success", "return", "steps"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map(([name, row]) => el("tr", {}, el("th", { scope: "row" }, name),
      el("td", {}, row.success_rate === null || row.success_rate === undefined ? "–" : `${(100 * row.success_rate).toFixed(1)} %`),
      el("td", {}, number(row.mean_return, 2)), el("td", {}, number(row.mean_length, 1)))))),
  el("p", { class: "soft" }, `${results.episodes ?? "?"} episodes of ${results.task ?? "its task"}.`));
}

function space(form) {
  if (!form) return "–";
  if (form.type === "Dict") return Object.entries(form.spaces).map(([name, inner]) => `${name}: ${space(inner)}`).join("; ");
  if (form.type === "Discrete") return `one of ${form.n}`;
  if (form.type === "MultiDiscrete") return `one of each of ${JSON.stringify(form.nvec)}`;
  return `${form.dtype} ${form.shape.join("×") || "number"}`;
}

function snippet(name, text) {
  const lines = el("pre", { tabindex: "0" }, text);
  const copy = el("button", { type: "button", onclick: async () => {
    copy.textContent = (await copied(text, lines)) ? "Copied" : "Selected";
  } }, "Copy");
  return el("div", {}, el("div", { class: "row" }, el("strong", {}, name), copy), lines);
}

// Whether the text is in the clipboard: browsers give that to https and localhost alone, and may refuse it there.
async function copied(text, lines) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(lines);
    return document.execCommand("copy");
  }
}

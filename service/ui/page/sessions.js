// The live list, and one session as it acts.
import { ask, follow } from "./api.js";
import { el, facts, gateChart, number, picture, planTree, shown, timing } from "./draw.js";

export function sessions(view, say, signal) {
  const body = el("tbody");
  const none = el("p", { class: "soft" }, "No session lives here. Drive an environment: ", el("code", {}, "thick drive --url … --episodes 1"));
  view.append(
    el("h1", {}, "Sessions"),
    el("div", { class: "card scroll" },
      el("table", {}, el("thead", {}, el("tr", {}, ["Session", "Model", "Step", "Method", "Expires"].map((name, at) =>
        el("th", { scope: "col", class: at > 2 ? "wide" : null }, name)))), body), none));
  const refresh = async () => {
    try {
      const { sessions: found } = await ask("GET", "v1/sessions", undefined, { signal });
      none.hidden = found.length > 0;
      body.replaceChildren(...found.toReversed().map((each) =>
        el("tr", {},
          el("td", {}, el("a", { href: `#/sessions/${each.session_id}`, class: "mono" }, each.session_id.slice(0, 10))),
          el("td", {}, `${each.model} ${each.version}`), el("td", {}, String(each.step)),
          el("td", { class: "wide" }, each.planner.method ?? ""),
          el("td", { class: "wide" }, new Date(each.expires_at).toLocaleTimeString()))));
    } catch (error) {
      if (!signal.aborted) say(error.message);
    }
  };
  refresh();
  const timer = setInterval(refresh, 2000);
  signal.addEventListener("abort", () => clearInterval(timer));
}

export function session(view, say, signal, id) {
  const acts = [];
  const state = el("span", { class: "badge" }, "connecting");
  const frame = el("div"), about = el("div"), strip = el("div", { class: "strip", tabindex: "0", "aria-label": "Latest frames" });
  const gates = el("div"), plan = el("div"), times = el("div");
  view.append(
    el("div", { class: "row" }, el("h1", {}, "Session ", el("span", { class: "mono" }, id.slice(0, 10))), state,
      el("a", { href: `#/dream?session=${id}` }, "Dream on from here")),
    el("div", { class: "split" },
      el("div", { class: "card" }, frame, about),
      el("div", { class: "stack" },
        el("section", { class: "card", "aria-label": "Frames" }, el("h2", {}, "What it saw"), strip),
        el("section", { class: "card" }, el("h2", {}, "Gates, context changes, rewards"), gates),
        el("section", { class: "card" }, el("h2", {}, "Plan"), plan),
        el("section", { class: "card" }, el("h2", {}, "Where the time went"), times))));

  const draw = () => {
    const act = acts.at(-1);
    frame.replaceChildren(picture(act?.image, act ? `what the agent sees at step ${act.step}` : "nothing yet"));
    gates.replaceChildren(gateChart(acts));
    if (!act) return;
    about.replaceChildren(facts([
      ["step", String(act.step)], ["action", shown(act.action)], ["reward", number(act.reward)],
      ["gates open", number(act.gates?.open)], ["context", act.gates?.changed ? "changed" : "kept"], ["method", act.plan?.method ?? "–"],
    ]));
    strip.replaceChildren(...acts.slice(-24).map((each) =>
      el("figure", { class: `${each.gates?.changed ? "changed" : ""} ${each === act ? "current" : ""}` },
        each.image ? el("img", { src: each.image, alt: `step ${each.step}`, loading: "lazy" }) : null,
        el("figcaption", {}, `${each.step}${each.gates?.changed ? " ●" : ""}`))));
    strip.scrollLeft = strip.scrollWidth;
    times.replaceChildren(timing(act.timing));
    plan.replaceChildren(...planned(act.plan));
  };
  draw();
  follow(`v1/sessions/${id}/events`, (event) => {
    if (event.name === "open") state.textContent = "live";
    else if (event.name === "lost") state.textContent = "connection lost, trying again";
    else if (event.name === "end") state.textContent = "ended";
    else if (event.name === "reset") state.textContent = "live, reset";
    else if (event.name === "gap") state.textContent = `live, ${event.data.missed ?? "some"} events missed`;
    else if (event.name === "act") {
      if (state.textContent === "live, reset") state.textContent = "live";
      acts.push(event.data);
      if (acts.length > 400) acts.shift();
      requestAnimationFrame(draw);
    }
  }, signal).catch((error) => {
    state.textContent = "not watched";
    about.replaceChildren(el("p", { role: "alert" }, error.message));
  });
}

function planned(plan) {
  if (!plan) return [el("p", { class: "soft" }, "no plan yet")];
  const parts = [];
  if (plan.high) {
    parts.push(el("div", { class: "scroll", tabindex: "0" }, planTree(plan.high)));
    if (plan.high.subgoal) {
      parts.push(el("div", { class: "row" }, el("img", { src: plan.high.subgoal, alt: "the subgoal", width: 120, class: "subgoal" }),
        el("p", { class: "soft" }, `Subgoal: just before the context changes, in about ${number(plan.high.durations?.[0], 1)} steps.`)));
    }
  } else parts.push(el("p", { class: "soft" }, "No subgoal: the low level plans alone."));
  if (plan.low?.actions?.length) {
    parts.push(el("p", {}, "Next actions: ", plan.low.actions.slice(0, 14).map((action) => [el("span", { class: "badge" }, shown(action)), " "])));
  }
  const budget = plan.budget ?? {};
  parts.push(el("p", { class: "soft" },
    `Expected return ${number(plan.low?.expected_return)}; ${budget.iterations_done ?? 0} of ${budget.iterations_asked ?? 0} iterations, ` +
    `${budget.simulations_done ?? 0} of ${budget.simulations_asked ?? 0} simulations${plan.high && !plan.replanned ? "; the subgoal was kept" : ""}.`));
  return parts;
}

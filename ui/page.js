// Answers of the server that set many controls at once. They come late, so each is applied only where it is still wanted: the newest of its form,
// and no control that a person has touched since asking for it.
window.drift = (() => {
  const forms = {};  // name: its newest question, the one that was answered, and what waits for it
  const touched = {};  // element id: when a person last changed it, in milliseconds
  const left = {};  // element id: when the pointer or the keyboard was last in it

  const skip = () => ({ __type__: "update" });

  function form(name) {
    return (forms[name] ??= { ticket: 0, applied: 0, since: 0, source: null, waiting: null, done: () => {} });
  }

  function note(event) {
    const control = event.target.closest?.(".drift");
    if (!control) return;
    left[control.id] = performance.now();
    const chosen = ["mousedown", "click", "pointerdown"].includes(event.type);
    if (chosen && !event.target.closest("[role=option], li, button")) return;
    if (event.type === "keydown" && (event.key === "Tab" || event.ctrlKey || event.metaKey || event.key === "Shift")) return;
    if (event.type !== "focusout") touched[control.id] = performance.now();
  }
  for (const type of ["input", "change", "keydown", "mousedown", "click", "focusout"]) document.addEventListener(type, note, true);

  // A question is asked: what is touched from `since` on stays.
  function ask(name, source, since) {
    const f = form(name);
    f.done();
    f.ticket += 1;
    f.source = source;
    f.since = since;
    f.waiting = new Promise((resolve) => { f.done = () => { f.waiting = null; f.done = () => {}; resolve(); }; });
    return f.ticket;
  }

  // A model was picked; the component tells it more than once.
  function pick(name, id, model, rest) {
    if (!model || model === form(name).source) return skip();
    return { ticket: ask(name, model, left[id] ?? performance.now()), model, rest };
  }

  // A plan was picked: asked for after what is still awaited, so that no answer about the model is dropped for it, and not where the model was changed meanwhile.
  async function plan(name, id, plan, model) {
    const f = form(name), since = left[id] ?? performance.now(), source = f.source;
    while (f.waiting) await f.waiting;
    return f.source === source ? { ticket: ask(name, source, since), model: source ?? model, plan } : skip();
  }

  function fail(name) {
    form(name).source = null;  // it may be picked again
    form(name).done();
  }

  // Values of the form's controls from an answer { form, ticket, controls: { id: update }, notes }, in the order of ids. The notes are of a form that holds all of the values.
  function apply(name, answer, ids) {
    const f = form(name);
    if (!answer || answer.form !== name || answer.ticket !== f.ticket || f.applied === f.ticket) return ids.map(skip);
    if (answer.source !== undefined) f.source = answer.source;
    const own = (id) => (touched[id] ?? -1) > f.since;  // a person's
    const whole = Object.keys(answer.notes ?? {}).length > 0 && !ids.some((id) => own(id) && "value" in (answer.controls[id] ?? {}));
    const out = ids.map((id) => {
      const update = answer.controls[id] ?? (whole ? answer.notes[id] : null);
      if (!update) return skip();
      const { value, ...rest } = update;
      return own(id) ? { __type__: "update", ...rest } : { __type__: "update", ...update };
    });
    if (name === "sample") noted = whole ? Object.fromEntries(ids.map((id) => [id, answer.controls[id]?.value])) : null;
    f.applied = answer.ticket;
    return out;
  }

  // Values of the form that the server has to be asked about: not those for which the last answer brought its notes along.
  let noted = null;
  const same = (a, b) => JSON.stringify(a ?? "") === JSON.stringify(b ?? "");
  function news(ids, values) {
    const told = values.map((value) => (value && typeof value === "object" ? true : value));  // of a picture only that it is there
    if (!form("sample").applied || (noted && ids.every((id, k) => same(noted[id], told[k] || "")))) return skip();
    noted = null;
    return [told];  // one output
  }

  // After the values of an answer are in.
  function done(name) {
    if (form(name).applied !== form(name).ticket) return;
    form(name).done();
    if (location.search) history.replaceState(null, "", location.pathname);  // the form has what the link said
  }

  async function quiet(name) {
    while (form(name).waiting) await form(name).waiting;  // an answer may be followed by the next question
  }

  // The values of the conditions' controls by name; their line is these as JSON.
  let values = {}, pending = 0;
  function fields(found) {
    values = { ...found?.values };
  }
  function put(name, value) {
    if (name) {
      if (value === null || value === undefined || value === "") delete values[name];
      else values[name] = value;
    }
    return Object.keys(values).length ? JSON.stringify(values) : "";
  }
  function sending(more) {  // a table or a file on its way to the server
    pending += more;
  }
  async function arrived() {
    while (pending > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  // Parts of the lines of guidance and sampler: name and the options that are given.
  const lines = { guidance: [], sampler: [] };
  function parts(found) {
    if (!found) return;
    lines[found.form] = found.parts.map((part) => heard(part, found.form));
  }
  const heard = (part, form) => ({
    name: part.shown,
    needs: part.needs,
    provides: part.provides,
    first: form === "guidance" ? part.options[0]?.name : null,
    spans: part.options.filter((o) => o.kind === "span" && o.name.startsWith("interval")).map((o) => o.name),
    given: Object.fromEntries(part.options.filter((o) => o.value !== null).map((o) => [o.name, String(o.value)])),
  });
  const quoted = (text) => (/[,()="]/.test(text) ? `"${text.replaceAll('"', "")}"` : text);
  function written(part) {
    const inside = Object.entries(part.given).filter(([key]) => !part.spans.includes(key) || part.first === null);
    const head = inside.length === 1 && inside[0][0] === part.first ? `${part.name}=${quoted(inside[0][1])}`
      : inside.length ? `${part.name}(${inside.map(([key, value]) => `${key}=${quoted(value)}`).join(",")})` : part.name;
    const spans = part.first === null ? [] : part.spans.filter((key) => key in part.given).map((key) => `${key}=${part.given[key]}`);
    return [head, ...spans].join(",");
  }
  function option(form, k, name, value) {
    const part = lines[form][k];
    if (value === null || value === undefined || value === "") delete part.given[name];
    else part.given[name] = String(value);
    return lines[form].map(written).join(",");
  }
  function rule(name) {
    if (name) lines.guidance.push({ name, needs: [], provides: "", first: null, spans: [], given: {} });
    return lines.guidance.map(written).join(",");
  }
  function unrule(k) {
    lines.guidance.splice(k, 1);
    return lines.guidance.map(written).join(",");
  }

  // Another model for the unconditional prediction: the rule that provides it is added, changed or taken out; where no rule needs that prediction, `guide` is added, which does.
  function prior(name, rule, guide) {
    const parts = lines.guidance, at = parts.findIndex((part) => part.provides === "uncond"), chosen = name && name !== "none";
    if (!chosen) parts.splice(at, at < 0 ? 0 : 1);
    else if (at >= 0) parts[at].given[parts[at].first] = name;
    else {
      const made = heard(rule, "guidance");
      parts.unshift({ ...made, given: { [made.first]: name } });
    }
    if (chosen && !parts.some((part) => part.needs.includes("uncond"))) parts.push(heard(guide, "guidance"));
    return parts.map(written).join(",");
  }
  function lender() {
    const found = lines.guidance.find((part) => part.provides === "uncond");
    return found?.given[found.first] ?? "none";
  }

  // So many seeds from one on, as the line says it, and back.
  const seeds = (count, start) => {
    const from = Math.max(0, Math.trunc(start ?? 0)), many = Math.max(1, Math.trunc(count ?? 1));
    return many === 1 ? String(from) : `${from}-${from + many - 1}`;
  };
  function span(line, count, start) {
    const said = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(line ?? "");
    return said ? [Number(said[2] ?? said[1]) - Number(said[1]) + 1, Number(said[1])] : [count, start];
  }
  const dice = (count) => seeds(count, Math.floor(Math.random() * 2 ** 31));
  const next = (count, start) => seeds(count, (start ?? 0) + (count ?? 1));
  const reuse = (count, start) => /seed-0*(\d+)/.exec(document.getElementById("download")?.innerText ?? "")?.[1] ?? seeds(count, start);

  // Until the controls say what the picked model has; never longer than ten seconds.
  function settled(name) {
    return Promise.race([quiet(name).then(arrived), new Promise((resolve) => setTimeout(resolve, 10000))]);
  }

  // What this tab asked for and which job is its own: kept by the browser until the tab is closed, so that a reload takes both up again.
  function keep(key, value) {
    try { sessionStorage.setItem(`drift-${key}`, JSON.stringify(value)); } catch { /* a browser that keeps nothing */ }
  }
  function kept(key) {
    try { return JSON.parse(sessionStorage.getItem(`drift-${key}`)); } catch { return null; }
  }
  const key = (name, what) => (name === "sample" ? what : `${name}-${what}`);  // each form has its own
  function form_is(ids, values, name = "sample") {
    if (form(name).applied) keep(key(name, "form"), Object.fromEntries(ids.map((id, k) => [id, values[k]])));
  }

  // The tab's job of a form, from now on.
  function job_is(id, name = "sample") {
    if (id) keep(key(name, "job"), id);
  }

  // What the page was opened with: a link says more than what the tab had before.
  function opened(name = "sample") {
    const said = Object.fromEntries(["recipe", "job", "item"].map((what) => [what, new URLSearchParams(location.search).get(what)]));
    return Object.values(said).some(Boolean) ? said : { form: kept(key(name, "form")), own: kept(key(name, "job")) };
  }
  function job(name = "sample") {
    const said = opened(name);
    return said.job ?? said.own ?? "";
  }

  // The view that is looked at, asked for; of the pictures' own tabs nothing is asked.
  function view(views, at, held) {
    document.body.classList.toggle("view-open", at >= 0);
    document.body.classList.toggle("view-waits", at >= 0);
    const asked = views && at >= 0 ? { ...views, at, when: performance.now() } : null;
    return [asked ?? skip(), held && !asked ? null : skip()];
  }

  // Values of a form on another page: it opens, and takes them.
  function carry(name, answer) {
    if (answer?.form !== name) return;
    keep(key(name, "form"), Object.fromEntries(Object.entries(answer.controls).map(([id, update]) => [id, update.value])));
    keep(key(name, "job"), null);
    location.assign(location.pathname.replace(/\/*$/, "/bridge"));
  }

  // The file of a hidden button, after it has come.
  function download(id) {
    setTimeout(() => document.querySelector(`a#${id}, #${id} a, button#${id}`)?.click(), 100);
  }

  // The place of the chosen picture as it is now: an event that has waited carries what was chosen when it came.
  async function at(id) {
    await new Promise((resolve) => setTimeout(resolve));  // it is drawn then
    const find = (kind) => [...document.querySelectorAll(`#${id} .thumbnail-${kind}`)], small = find("small");
    return Math.max(0, (small.length ? small : find("item")).findIndex((item) => item.classList.contains("selected")));
  }

  // The handle between before and after.
  document.addEventListener("input", (event) => {
    const pair = event.target.closest?.(".pair");
    if (!pair) return;
    pair.style.setProperty("--cut", `${event.target.value}%`);
    event.target.setAttribute("aria-valuetext", `${event.target.value} % before`);
  });

  // Keys: of the whole page, unless a person writes.
  const KEYS = [
    ["Ctrl + Enter", "generate", "#generate"], ["Ctrl + Enter", "translate", "#translate"], ["Esc", "stop the run", "#stop, #bridge-stop"],
    ["← →", "walk through what was made", "#gallery, #bridge-main"], ["← → ↑ ↓ Home End", "walk through what was made", "#grid"], ["s", "star", "#grid"], ["Delete", "into the bin", "#grid"],
    ["?", "this list", "body"],
  ];
  function help() {
    const open = document.querySelector("dialog.keys");
    if (open) return open.remove();
    const dialog = document.createElement("dialog");
    dialog.className = "keys";
    dialog.innerHTML = `<h2>Keys</h2><dl>${KEYS.filter(([, , where]) => document.querySelector(where)).map(([key, what]) => `<dt><kbd>${key}</kbd></dt><dd>${what}</dd>`).join("")}</dl><form method="dialog"><button autofocus>Close</button></form>`;
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }
  function press(id) {
    const found = document.getElementById(id), button = found?.matches("button") ? found : found?.querySelector("button");
    if (button && !button.disabled) button.click();
    return Boolean(button && !button.disabled);
  }
  function walk(by) {  // through the pictures on Create; the first arrow opens the first one
    const all = [...document.querySelectorAll(document.querySelector("#gallery .preview") ? "#gallery .thumbnail-small" : "#gallery .thumbnail-item")];
    const at = all.findIndex((item) => item.classList.contains("selected"));
    (at < 0 ? all[0] : all[at + by])?.click();
  }
  document.addEventListener("keydown", (event) => {
    const writes = event.target.closest?.("input, textarea, [contenteditable=true]");
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      event.target.blur?.();  // what is written counts
      if (press("generate") || press("translate")) event.preventDefault();
    } else if (event.key === "Escape" && !document.querySelector("dialog[open], #gallery .preview, [role=listbox]")) {
      press("stop") || press("bridge-stop");
    } else if (["ArrowLeft", "ArrowRight"].includes(event.key) && !writes && !event.target.closest?.("[role=tab], [role=listbox], .gallery, .preview, button.thumbnail-item")) {
      press(event.key === "ArrowLeft" ? "bridge-previous" : "bridge-next") || walk(event.key === "ArrowLeft" ? -1 : 1);
    } else if (event.key === "?" && !writes) help();
  });

  return { seeds, span, dice, next, reuse, parts, option, rule, unrule, prior, lender, fields, put, sending, ask, pick, plan, fail, apply, news, done, settled, form_is, job_is, opened, job, view, carry, download, at };
})();

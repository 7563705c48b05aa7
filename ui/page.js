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

  // Values of the form's controls from an answer { form, ticket, controls: { id: update } }, in the order of ids.
  function apply(name, answer, ids) {
    const f = form(name);
    if (!answer || answer.form !== name || answer.ticket !== f.ticket || f.applied === f.ticket) return ids.map(skip);
    if (answer.source !== undefined) f.source = answer.source;
    const out = ids.map((id) => {
      const update = answer.controls[id];
      if (!update) return skip();
      const { value, ...rest } = update;
      return (touched[id] ?? -1) > f.since ? { __type__: "update", ...rest } : { __type__: "update", ...update };
    });
    f.applied = answer.ticket;
    return out;
  }

  // After the values of an answer are in.
  function done(name) {
    if (form(name).applied === form(name).ticket) form(name).done();
  }

  async function quiet(name) {
    while (form(name).waiting) await form(name).waiting;  // an answer may be followed by the next question
  }

  // Until the controls say what the picked model has; never longer than ten seconds.
  function settled(name) {
    return Promise.race([quiet(name), new Promise((resolve) => setTimeout(resolve, 10000))]);
  }

  return { ask, pick, plan, fail, apply, done, settled };
})();

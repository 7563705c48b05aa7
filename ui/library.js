// The Library's thumbnails: a click or an arrow key chooses an item, links turn pages; the address says what is shown, so that a reload shows it again.
const things = () => [...element.querySelectorAll("[data-id]")];
const root = () => element.querySelector(".things");
let awaited = null;  // what gets the focus when the next page is there: "first" or "last"
let asked = null, mine = null;  // the question that waits, and the item that was chosen last

function choose(link) {
  things().forEach((other) => other.toggleAttribute("aria-current", false));
  link.setAttribute("aria-current", "true");
  mine = link.dataset.id;
  link.focus({ preventScroll: false });
  history.replaceState(history.state, "", link.href);
  clearTimeout(asked);
  asked = setTimeout(() => trigger("select"), 60);  // a held key passes many
}

function turn(page, focus) {
  awaited = focus;
  document.querySelector("#grid").dataset.page = page;
  trigger("submit");
}

element.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;  // a tab of its own
  const link = event.target.closest("a");
  if (!link || !element.contains(link)) return;
  if (link.dataset.id) {
    event.preventDefault();
    choose(link);
    document.body.classList.add("thing-open");  // which fills a phone and changes nothing elsewhere
  } else if (link.dataset.page) {
    event.preventDefault();
    turn(Number(link.dataset.page), null);
    root()?.scrollIntoView({ block: "nearest" });
  }
});

element.addEventListener("submit", (event) => {
  event.preventDefault();
  turn(Number(new FormData(event.target).get("page")), null);
});

element.addEventListener("keydown", (event) => {
  const link = event.target.closest?.("[data-id]");
  if (!link || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = things(), at = all.indexOf(link);
  const top = link.getBoundingClientRect().top;
  const row = all.filter((other) => Math.abs(other.getBoundingClientRect().top - top) < 4).length || 1;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row, Home: -at, End: all.length - 1 - at };
  const buttons = { Delete: "#thing-delete", s: "#thing-star" };
  if (event.key in steps) {
    event.preventDefault();
    const to = at + steps[event.key];
    if (all[to]) choose(all[to]);
    else if (event.key === "ArrowRight") turnBy(1, "first");
    else if (event.key === "ArrowLeft") turnBy(-1, "last");
  } else if (event.key in buttons) {
    event.preventDefault();
    clearTimeout(asked);  // what comes next is shown, not this
    document.querySelector(buttons[event.key])?.click();
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(link);
  }
});

function close(event) {
  if (event.type === "keydown" ? event.key !== "Escape" : !event.target.closest?.(".back")) return;
  if (!document.body.classList.contains("thing-open")) return;
  document.body.classList.remove("thing-open");
  element.querySelector("[aria-current]")?.focus();
}
document.addEventListener("click", close);

// On a phone the narrower filters are unfolded on demand, and where they say something.
function unfold(open) {
  document.body.classList.toggle("filters-open", open);
  document.querySelector(".more")?.setAttribute("aria-expanded", open);
}
document.addEventListener("click", (event) => {
  if (event.target.closest?.(".more")) unfold(!document.body.classList.contains("filters-open"));
});
if (["model", "class", "seed", "since", "until"].some((name) => new URLSearchParams(location.search).get(name))) unfold(true);

document.addEventListener("keydown", close);

function turnBy(by, focus) {
  const field = element.querySelector("[name=page]");
  const page = Number(field?.value) + by;
  if (field && page >= 1 && page <= Number(field.max)) turn(page, focus);
}

function shown() {
  const grid = root();
  if (!grid) return;
  const early = document.querySelector("#early");
  if (early) {
    const at = early.scrollTop;
    early.remove();
    window.scrollTo(0, at);
  }
  const all = things();
  const now = all.find((link) => link.dataset.id === (grid.dataset.chosen || mine));  // an answer may be older than a click
  mine = now?.dataset.id ?? null;
  if (now) now.setAttribute("aria-current", "true");
  else document.body.classList.remove("thing-open");
  history.replaceState(history.state, "", now ? now.href : grid.dataset.link);
  if (awaited && all.length) choose(awaited === "first" ? all[0] : all[all.length - 1]);
  else if (document.activeElement === document.body && grid.dataset.chosen) now?.focus({ preventScroll: true });
  awaited = null;
}

watch("value", shown);
const sent = document.querySelector("#early .things");  // the server says the same again, a moment later
if (sent && !root()) props.value = sent.outerHTML;
setTimeout(shown);

"""The Library's page: what stands on it, and which of `ui.library`'s answers each control asks for."""

from pathlib import Path
from typing import Any

import gradio as gr

from ui import html, layout, library_html, uploads
from ui.events import QUIET
from ui.jobs import Jobs
from ui.library import DETAIL, FILTERS, SHOWS, Asked, Library, asked, whole
from ui.strip import strip
from ui.toasts import toasts

CSS, SCRIPT = Path(__file__).with_name("library.css"), Path(__file__).with_name("library.js")
GRID = ("grid", "number", "wrong", "bin", "sure")
IN_TURN: dict[str, Any] = {**QUIET, "concurrency_id": "library", "concurrency_limit": 1}  # answers as asked
# what is highlighted counts, also where the answer that shows it large is still on its way
CURRENT = """(...all) => {
  const now = document.querySelector("#grid [aria-current]");
  return [...all.slice(0, -1), now ? now.dataset.id : all.at(-1)];
}"""
TURNED = "(...all) => [...all.slice(0, -2), +document.querySelector('#grid').dataset.page, all.at(-1)]"
EVERY = "All"
MORE = (  # on a phone
    '<button type="button" class="more" aria-expanded="false" aria-controls="narrower">'
    "Model, class, seed, dates</button>"
)


def page(app: gr.Blocks, jobs: Jobs) -> None:
    """Add the page to an app; called outside of its ``with``."""
    with app.route("Library", library_html.ADDRESS):
        strip(app, jobs)
        parts: dict[str, Any] = {}
        with gr.Row(elem_id="library", equal_height=False):
            with gr.Column(scale=11, min_width=320):
                parts |= _filters() | _grid()
            with gr.Column(scale=5, min_width=300, elem_id="library-side"):
                parts |= _detail() | _drop()
        _wire(app, parts, Library(jobs.engine))


# ---- what stands on it


def _filters() -> dict[str, Any]:
    p: dict[str, Any] = {}
    with gr.Group(elem_id="filters"):
        with gr.Row():
            p["text"] = gr.Textbox(label="Search", placeholder="model, class or note", max_lines=1)
            p["show"] = gr.Radio(label="Show", choices=[(v, k) for k, v in SHOWS.items()], value="")
        gr.HTML(MORE, elem_id="more", apply_default_css=False)
        with gr.Row(elem_id="narrower"):
            p["model"] = gr.Dropdown(label="Model", choices=[(EVERY, "")], value="", allow_custom_value=True)
            p["class"] = gr.Dropdown(label="Class", choices=[(EVERY, "")], value="", allow_custom_value=True)
            p["seed"] = gr.Textbox(label="Seed", placeholder="any", max_lines=1)
            p["since"] = gr.Textbox(label="From", placeholder="YYYY-MM-DD", max_lines=1)
            p["until"] = gr.Textbox(label="To", placeholder="YYYY-MM-DD", max_lines=1)
        p["wrong"] = gr.HTML(elem_classes="inset")
    return p


def _grid() -> dict[str, Any]:
    p: dict[str, Any] = {}
    with gr.Row(visible=False, elem_id="bin-bar", equal_height=True) as p["bin"]:
        p["bin_words"] = gr.HTML("Deleted items stay here, their files untouched, until the bin is emptied.")
        p["ask_empty"] = gr.Button("Empty the bin …", size="sm", scale=0, min_width=150)
    with gr.Group(visible=False, elem_id="sure") as p["sure"]:
        p["sure_words"] = gr.HTML()
        with gr.Row():
            p["empty"] = gr.Button("Remove for good", variant="stop", size="sm")
            p["keep"] = gr.Button("Keep them", size="sm")
    p["grid"] = gr.HTML(elem_id="grid", apply_default_css=False, js_on_load=SCRIPT.read_text())
    p["number"] = gr.Number(1, precision=0, visible="hidden")
    p["chosen"] = gr.Textbox(visible="hidden")
    return p


def _detail() -> dict[str, Any]:
    p: dict[str, Any] = {"large": gr.HTML(library_html.choose(), elem_id="large", apply_default_css=False)}
    with gr.Column(visible=False, elem_id="thing") as p["item"]:
        p["told"] = gr.HTML(elem_classes="inset")
        p["links"] = gr.HTML(apply_default_css=False)
        with gr.Row(elem_classes="tight"):
            p["star"] = gr.Button("☆ Star", size="sm", min_width=90, elem_id="thing-star")
            p["delete"] = gr.Button("Delete", size="sm", min_width=90, elem_id="thing-delete")
        p["note"] = gr.Textbox(
            label="Note", placeholder="a word for yourself", max_lines=3, elem_id="thing-note"
        )
        p["command"] = layout.command("thing-command")
        p["python"] = layout.python("thing-python")
        with gr.Accordion("Recipe", open=False):
            p["recipe"] = gr.JSON(label="Recipe", max_height=260, elem_id="thing-recipe")
    return p


def _drop() -> dict[str, Any]:
    return {"drop": uploads.file([".png"], label="Look at a picture of ours", height=96, elem_id="drop")}


# ---- what is asked


def _wire(app: gr.Blocks, p: dict[str, Any], h: Library) -> None:
    filters = [p[name] for name in FILTERS]

    def row(names: tuple[str, ...], **changes: Any) -> tuple[Any, ...]:
        return tuple(changes.get(name, gr.skip()) for name in names)

    def shown(question: Asked, number: int, chosen: str = "") -> dict[str, Any]:
        view = h.view(question, number, chosen)
        return {
            "grid": library_html.grid(view, h.engine.out),
            "number": view.number,
            "wrong": "".join(html.note(text, bad=True) for text in question.wrong),
            "bin": gr.update(visible=bool(question.wanted.binned) and bool(view.count)),
            "sure": gr.update(visible=False),
        }

    def form(values: tuple[Any, ...]) -> Asked:
        return asked(dict(zip(FILTERS, values)))

    def choices(query: dict[str, str]) -> dict[str, Any]:
        models, classes = h.choices(query.get("model", ""))
        return {
            name: gr.update(choices=[(EVERY, ""), *known], value=query.get(name, ""))
            for name, known in (("model", models), ("class", classes))
        }

    def opened(request: gr.Request) -> tuple[Any, ...]:
        with toasts():
            link = dict(request.query_params)
            question, chosen = asked(link), str(link.get("item", ""))[:200]
            fields = {name: question.query.get(name, "") for name in FILTERS}
            told = fields | choices(question.query) | shown(question, whole(link.get("page")), chosen)
            return row((*FILTERS, *GRID, *DETAIL), **told, **h.detail(chosen))

    def adopted(*values: Any) -> tuple[Any, ...]:
        *fields, number, chosen = values
        with toasts():
            if not h.adopt():
                return row((*FILTERS, *GRID))
            question = form(tuple(fields))
            return row((*FILTERS, *GRID), **choices(question.query), **shown(question, int(number), chosen))

    def filtered(*values: Any) -> tuple[Any, ...]:
        with toasts():
            question = form(values)
            return row((*FILTERS, *GRID), **choices(question.query), **shown(question, 1))

    def turned(*values: Any) -> tuple[Any, ...]:
        *fields, number, chosen = values
        with toasts():
            return row(GRID, **shown(form(tuple(fields)), whole(number), chosen))

    def picked(chosen: str | None) -> tuple[Any, ...]:
        with toasts():
            return row(DETAIL, **h.detail(str(chosen or "")[:200]))

    def starred(*values: Any) -> tuple[Any, ...]:
        *fields, number, chosen = values
        with toasts():
            item = h.item(chosen)
            h.mark(chosen, star=item is None or not item.star)
            return row(
                (*GRID, *DETAIL), **shown(form(tuple(fields)), int(number), chosen), **h.detail(chosen)
            )

    def binned(*values: Any) -> tuple[Any, ...]:
        *fields, number, chosen = values
        with toasts():
            question, item = form(tuple(fields)), h.item(chosen)
            after = h.beside(question, int(number), chosen)
            h.mark(chosen, binned=item is None or not item.binned)
            return row((*GRID, *DETAIL), **shown(question, int(number), after), **h.detail(after))

    def noted(*values: Any) -> tuple[Any, ...]:
        *fields, number, chosen, note = values
        item = h.item(chosen)
        if item is None or item.note == (note or ""):
            return row(GRID)
        with toasts():
            h.mark(chosen, note=note or "")
            return row(GRID, **shown(form(tuple(fields)), int(number), chosen))

    def sure() -> tuple[Any, ...]:
        with toasts():
            found = h.bin()
            words = html.note(f"This removes from the disk, and nothing brings it back: {found}.", bad=True)
            return words, gr.update(visible=True), gr.update(interactive=bool(found.items))

    def emptied(*values: Any) -> tuple[Any, ...]:
        with toasts():
            gone = h.empty()
            gr.Info(html.text(f"Removed {gone}."))
            return row((*GRID, *DETAIL), **shown(form(values), 1), **h.detail(""))

    every, one = [p[k] for k in GRID], [p[k] for k in DETAIL]
    paged, both = [*filters, p["number"], p["chosen"]], [*every, *one]
    loaded = app.load(opened, None, [*filters, *both], **IN_TURN)
    loaded.then(adopted, paged, [*filters, *every], **QUIET)
    gr.on(
        [p["text"].input, p["show"].input, p["model"].input, p["class"].input]
        + [event for k in ("seed", "since", "until") for event in (p[k].submit, p[k].blur)],
        filtered,
        filters,
        [*filters, *every],
        trigger_mode="always_last",
        **IN_TURN,
    )
    # what waits is told by the page as it is then: an event carries what it was when it came
    p["grid"].submit(turned, paged, every, js=TURNED, trigger_mode="always_last", **IN_TURN)
    p["grid"].select(picked, p["chosen"], one, js=CURRENT, trigger_mode="always_last", **IN_TURN)
    p["star"].click(starred, paged, both, js=CURRENT, **IN_TURN)
    p["delete"].click(binned, paged, both, js=CURRENT, **IN_TURN)
    gr.on([p["note"].blur, p["note"].submit], noted, [*paged, p["note"]], every, **IN_TURN)
    p["ask_empty"].click(sure, None, [p["sure_words"], p["sure"], p["empty"]], **IN_TURN)
    p["keep"].click(lambda: gr.update(visible=False), None, p["sure"], **IN_TURN)
    p["empty"].click(emptied, filters, both, **IN_TURN)
    p["drop"].upload(lambda path: row(DETAIL, **h.dropped(path)), p["drop"], one, **IN_TURN)
    p["drop"].clear(lambda: row(DETAIL, **h.detail("")), None, one, **IN_TURN)

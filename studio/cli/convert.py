"""Commands between programs: convert."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.options import AsJson, emit


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="dit:FILE.pt, sit:FILE.pt, dis:FILE.pt, rwkv:FILE.pt, graph_dit:FILE.ckpt, diffusers:DIR "
            "or hf:org/name; with --to a MODEL."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    config: Annotated[
        list[str] | None,
        typer.Option(
            help="key=value: num_heads=6, path_type=GVP, weights=raw, classes=FILE, name=..., "
            "sample.num_steps=250; with --to steps=25."
        ),
    ] = None,
    to: Annotated[str | None, typer.Option(help="Write a MODEL of ours for others: diffusers.")] = None,
    vae: Annotated[
        str | None, typer.Option(help="Folder of a diffusers AutoencoderKL, or hf:org/name.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace a folder that was converted or exported before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn weights of others into a model folder, or a model of ours into what others read.

    Pickles are read without objects; nothing is written before everything has been checked.

    Examples: `studio convert dit:DiT-XL-2-256x256.pt --out dit-xl --vae sd-vae` · `studio convert
    sit:SiT-XL-2-256x256.pt --out sit-xl --vae sd-vae` · `studio convert diffusers:DiT-XL-2-256 --out dit-xl`
    · `studio convert my-model --to diffusers --out for-diffusers` · `studio convert dit:mine.pt --out mine
    --config num_heads=6 --config classes=names.txt`
    """
    from studio.convert.convert import convert as run

    folder = run(source, out, overrides=list(config or []), to=to, vae=vae, overwrite=overwrite)
    if to is None:
        from studio.checkpoints.find import card
        from studio.runtime.pretrained import read_json
        from studio.runtime.recipes import next_line

        shown, meta = card(folder), read_json(folder / "meta.json")
        lines = [
            f"{folder}  {shown.backbone} {'×'.join(map(str, shown.shape))}, {len(shown.classes)} classes",
            f"read as {meta['read_as']} (weights: {meta['weights']})",
            next_line("sample", folder, ("--out", "pictures")),
        ]
        told = {
            "folder": str(folder),
            "shape": list(shown.shape),
            "classes": len(shown.classes),
            "read_as": meta["read_as"],
            "weights": meta["weights"],
        }
        return emit(told, as_json, lines)
    from studio.convert.convert import ORIGIN
    from studio.runtime.pretrained import read_json

    notes, pipeline = read_json(folder / ORIGIN)["notes"], (folder / "model_index.json").is_file()
    lines = [str(folder), *([f"DiTPipeline.from_pretrained({str(folder)!r})"] if pipeline else []), *notes]
    emit({"folder": str(folder), "pipeline": pipeline, "notes": notes}, as_json, lines)

"""The family ``sit``: checkpoints of SiT (Ma et al. 2401.08740), DiT's network trained on an interpolant x_t
= alpha(t)·data + sigma(t)·noise.

    Linear  alpha = t, sigma = 1 − t            our ``linear``
    GVP     alpha = sin(πt/2), sigma = cos(πt/2)    our ``trig``

Its time is ours (0 noise, 1 data) and its network sees t itself, which the path's ``time_scale: 1`` says. Of
an output with doubled channels the second half was never trained or read: its rows are left out.
"""

from pathlib import Path
from typing import Any, Literal

from backbones.originals.dit import first_half, original_state
from studio.checkpoints.build import Info
from studio.convert.checkpoint import Held, Weights, read_state, says
from studio.convert.convert import Imported, class_names
from studio.convert.dit import network

PATHS = {"Linear": "linear", "GVP": "trig"}
PREDICTIONS = ("velocity", "noise", "score")


def read(
    path: str,
    vae: Any,
    /,
    *,
    path_type: str | None = None,
    prediction: str | None = None,
    num_heads: int | None = None,
    num_classes: int | None = None,
    input_size: int | None = None,
    classes: str | None = None,
    weights: Weights = "auto",
    codec: Literal["auto", "pixels", "vae"] = "auto",
) -> Imported:
    """As `studio.convert.dit.read`. ``path_type`` (Linear or GVP) and ``prediction`` (velocity, noise or
    score) come from the file's arguments; where it has none they are what is asked for, by default those of
    the released weights, Linear and velocity.

    Sampled by 50 steps of Euler (the original's Euler of 51 times), guidance 4 on the first three latent
    channels. Raises ``ValueError`` for the VP interpolant, which is none of our paths, for another time
    convention, and for a file that says it is a DiT.
    """
    held = read_state(path, weights, "sit")
    said, where = says(held)
    if said == "dit" and path_type is None and prediction is None:
        raise ValueError(
            f"got sit:{path}, expected a flow: the file says that it is a DiT ({where}); read it as "
            f"dit:{path}, or say how it was trained: --config path_type=Linear"
        )
    asked = {"path_type": path_type, "prediction": prediction}
    kind = _chosen(held, "path_type", path_type, (*PATHS, "VP"))
    target = _chosen(held, "prediction", prediction, PREDICTIONS)
    if kind == "VP":
        raise ValueError(
            f"got {path} with path_type=VP, expected {' or '.join(PATHS)}: SiT's continuous VP "
            "interpolant is none of our paths"
        )
    net = network(held, vae, codec, num_heads=num_heads, num_classes=num_classes, input_size=input_size)
    options, told = net.options, [k for k in asked if held.args.get(k) is not None]
    state = original_state(held.tensors, options["depth"])
    doubled = options["learn_sigma"]
    if doubled:
        state = first_half(state, options["in_channels"])
    names, meta = class_names(options["num_classes"], classes)
    notes = ["the second half of its doubled output left out"] if doubled else []
    notes += [f"its arguments say {' and '.join(told)}"] if told else []
    notes += (
        [f"nothing in the file says {' or '.join(k for k in asked if k not in told)}"]
        if len(told) < len(asked)
        else []
    )
    notes += held.notes
    if held.args.get("loss_weight"):
        notes.append(f"its loss weight {held.args['loss_weight']} is not kept for training on")
    return Imported(
        name=Path(path).stem,
        tensors=state,
        backbone={"name": "dit", **options, "learn_sigma": False},
        objective={
            "path": {"name": PATHS[kind], "time_scale": 1.0},
            "parameterization": {"name": target},
            "cond_drop": 0.1 if options["null_class"] else 0.0,
        },
        sample={"sampler": "euler", "num_steps": 50, "guidance": net.guidance},
        info=Info("image", net.shape, names, net.codec),
        vae=vae,
        meta={**meta, "weights": held.part},
        read_as="; ".join(
            [
                f"a flow (SiT) that predicts {target} on the {kind} path, its clock t from 0 (noise) "
                "to 1 (data)",
                *notes,
            ]
        ),
    )


def _chosen(held: Held, key: str, asked: str | None, known: tuple[str, ...]) -> str:
    """What the file says or is asked for, whatever its case. Raises ``ValueError`` where they differ or
    neither is known."""
    noted = held.args.get(key)
    if asked is not None and noted is not None and str(noted).lower() != asked.lower():
        raise ValueError(
            f"got {key}={asked}, the arguments of {held.path} say {key}={noted}; expected them to agree, "
            f"leave {key} out"
        )
    value = str(next((v for v in (asked, noted) if v is not None), known[0]))
    found = next((k for k in known if k.lower() == value.lower()), None)
    if found is None:
        other = (
            " (codes that call it v run time from data to noise, which is another model)"
            if value == "v"
            else ""
        )
        raise ValueError(f"got {key}={value}, expected one of {', '.join(known)}; a SiT has no other{other}")
    return found

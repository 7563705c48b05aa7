"""What a model of pictures says of held-out ones: bits per number of each under several labels, and pictures
that lie between two: `python examples/what_a_model_says.py OUT.png [MODEL]`."""

import sys

import torch

import studio

COUNT, STEPS, BETWEEN = 32, 10, 9

if __name__ == "__main__":
    out, name = [*sys.argv[1:], "fashion-dit"][:2]
    model = studio.load(name)
    data = studio.data.load_data(model.config.data).held_out
    pictures, labels = torch.as_tensor(data.values), torch.as_tensor(data.labels)
    classes = len(model.classes)
    shown, own = pictures[:COUNT], labels[:COUNT]
    asked = {
        "their own label": (shown, own),
        "no label": (shown, torch.full_like(own, -1)),
        "the next class": (shown, (own + 1) % classes),
        "their own, upside down": (shown.flip(-2), own),
    }
    found = {
        k: model.bits_per_dim(x, labels=y.tolist(), num_steps=STEPS, exact=False)
        for k, (x, y) in asked.items()
    }
    first = found["their own label"]
    print(f"{model.name}, {COUNT} held-out pictures, {STEPS} steps of rk4, one probe")
    for k, bits in found.items():
        error, more = bits.std() / COUNT**0.5, int((bits > first).sum())
        print(f"{k:24} {bits.mean():.3f} ± {error:.3f} bits; more than under their own: {more} of {COUNT}")
    pairs = [(k, (k + classes // 2) % classes) for k in range(classes // 2)]
    ways = []
    for a, b in pairs:
        one, two = (pictures[labels == k][0] for k in (a, b))
        way = model.interpolate(one, two, BETWEEN, num_steps=40, guidance="none", sampler="heun")
        ways += [one, *way.values, two]
        errors = [
            float((w.value.float() - p.float()).abs().mean()) for w, p in ((way[0], one), (way[-1], two))
        ]
        print(f"{model.classes[a]} to {model.classes[b]}: {errors[0]:.2f} and {errors[1]:.2f} of 255 off")
    model.task.sheet(torch.stack(ways), columns=BETWEEN + 2).save(out)

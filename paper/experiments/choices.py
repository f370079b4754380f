"""Augmentation, class balance and training from scratch (4.4)."""

import numpy as np

from data.dataset import open_dataset
from paper import drawn, training

TITLE = "Augmentation, class weights, training from scratch"
PLACE = "4.4"
MINUTES = 3
NEEDS = ()
DEPENDS = drawn.DEPENDS

RATES = (drawn.RATE, 5e-8)  # of training from scratch, which may need a lower one
GAIN = 0.05  # of mean IU: what counts as noticeable here; seeds alone differ by as much


def run(context):
    """Train with mirrored and moved images, with classes weighted alike, and without the classifier's weights."""
    seeds = drawn.SIZE.seeds
    weights, share = balanced(drawn.reference(context, seeds[0]).train["voc_dir"])
    search = training.train_all(context, {rate: scratch(context, seeds[0], rate) for rate in RATES}, 0, 0.2)
    reached = {rate: 0.0 if one.diverged else one.scores["mean_iu"] for rate, one in search.items()}
    rate = max(reached, key=reached.get)
    runs = {(name, seed): one for seed in seeds for name, one in nets(context, seed, weights, rate).items()}
    trained = training.train_all(context, runs, 0.2, 1)
    scores = {name: [trained[name, seed].scores["mean_iu"] for seed in seeds] for name, _ in runs}
    means = {name: drawn.mean(values) for name, values in scores.items()}
    ran = drawn.pictures_of()

    def row(claim, name, paper, what):
        gain = means[name] - means["plain"]
        return drawn.shape(claim, PLACE, f"{ran}; {what}", paper, drawn.listed({one: scores[one] for one in (name, "plain")}),
                           gain < GAIN, f"Rule: it gains less than {100 * GAIN:.0f} points; it gains {100 * gain:+.1f}.")

    return {
        "rows": drawn.told_once(ran, [
            row("Mirroring and jitter by up to 32 pixels yield no noticeable improvement", "augmented",
                "no noticeable improvement", "mirrored at random, moved by up to 32 pixels in each direction"),
            row("Class balancing is unnecessary", "weighted", "unnecessary",
                f"classes weighted by one over their share of the labels (background {100 * share:.0f} %), the mean weight is 1"),
            drawn.shape("Training from scratch gives substantially lower accuracy", PLACE,
                        f"{ran}; from scratch with random weights (msra), the best of the rates {', '.join(map(str, RATES))}",
                        "substantially lower (no figure)", drawn.listed({one: scores[one] for one in ("scratch", "plain")}),
                        means["plain"] - means["scratch"] > GAIN,
                        f"Rule: it is lower by more than {100 * GAIN:.0f} points; it is lower "
                        f"{drawn.in_every_seed(scores, 'scratch', 'plain')}."),
        ]),
        "numbers": {"mean_iu": scores, "class_weights": weights, "background": share,
                    "rates": {f"{one:g}": score for one, score in reached.items()}},
        "curves": {name: drawn.curve([trained[name, seed] for seed in seeds], TITLE, name) for name in means},
    }


def scratch(context, seed, rate):
    """Return the run that begins with random weights."""
    name = f"scratch-{rate:g}-{seed}".replace(".", "_")
    return drawn.reference(context, seed).but(name, weights=None, fields={"base_lr": rate}, may_diverge=True)


def nets(context, seed, weights, rate):
    """Return {name: Run}."""
    one = drawn.reference(context, seed)
    return {"plain": one, "augmented": one.but(f"augmented-{seed}", options={"mirror": True, "jitter": 32}),
            "weighted": one.but(f"weighted-{seed}", options={"class_weights": tuple(weights)}),
            "scratch": scratch(context, seed, rate)}


def balanced(folder):
    """Return (weights of the classes, three digits; share of background) of the training labels: one over a class's share."""
    dataset = open_dataset("voc", folder, "train")
    counts = sum(np.bincount(label[label < dataset.classes], minlength=dataset.classes) for _, _, label in dataset)
    shares = counts / counts.sum()
    held = shares > 0
    weights = np.where(held, 1 / np.where(held, shares, 1) / held.sum(), 1)
    return [float(f"{one:.3g}") for one in weights], float(shares[0])

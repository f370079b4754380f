"""Skips, truncated nets and fixed features (Table 3, Fig. 4), and training from scratch (4.4)."""

from paper import drawn, training

TITLE = "Skips against single streams, truncated nets and fixed features"
PLACE = "4.3, Table 3"
MINUTES = 7
NEEDS = ()
DEPENDS = drawn.DEPENDS

PAPER = {"32s": 63.6, "16s": 65.0, "8s at once": 65.4, "8s staged": 65.5, "32s fixed": 46.6, "pool5": 50.0, "pool4": 22.4,
         "pool3": 9.2}
# Of the streams when all learn at once: the spread of fc6 over that of pool4 and pool3 in the classifier.
SCALES = {"pool4": 1.0, "pool3": 1.0}


def run(context):
    """Train the eight nets of the table, one that goes on without a skip and one from scratch."""
    seeds = drawn.SIZE.seeds
    runs = {(name, seed): one for seed in seeds for name, one in nets(context, seed).items()}
    trained = training.train_all(context, runs)
    scores = {name: [trained[name, seed].scores["mean_iu"] for seed in seeds] for name, _ in runs}
    ran = drawn.pictures_of()
    skips = ("32s", "16s", "8s staged")

    def row(claim, ours, *names, what="", place=PLACE, paper=None, holds=None, note=""):
        holds = drawn.ordered(scores, *names) if holds is None else holds
        note = note or f"By the means over seeds; the order holds {drawn.in_every_seed(scores, *names)}."
        return drawn.shape(claim, place, f"{ran}{what}", paper or ", ".join(f"{name} {PAPER[name]}" for name in ours),
                           drawn.listed({name: scores[name] for name in ours}), holds, note)

    means = {name: drawn.mean(values) for name, values in scores.items()}
    gain = means["8s staged"] - means["32s"]
    apart = abs(means["8s at once"] - means["8s staged"])
    fixed, longer = means["32s fixed"] / means["32s"], means["32s longer"] - means["32s"]
    half = "; each added stream is trained on half as many images again, at a hundredth of the rate"
    return {
        "rows": [
            row("Each skip, from pool4 and then pool3, improves the score", skips, *skips, what=half),
            row("All streams learned at once come close to learning in stages", ("8s at once", "8s staged"),
                what="; at once on as many images as all stages together, streams scaled", holds=gain > 0 and apart < gain / 2,
                note=f"Rule: they differ ({100 * apart:.1f}) by less than half of what the skips gain ({100 * gain:.1f})."),
            row("A lower rate without a skip gains next to nothing", ("32s", "32s longer"), paper="negligible improvement",
                what="; 32s goes on for as many images as both skips were given, at a hundredth of the rate",
                holds=gain > 0 and longer < gain / 4,
                note=f"Rule: the gain ({100 * longer:+.1f}) is less than a quarter of that of the skips ({100 * gain:+.1f})."),
            row("Fine-tuning only the score layer gives 73 % of the score of fine-tuning all layers", ("32s fixed", "32s"),
                "32s fixed", "32s", paper="46.6 of 63.6: 73 %", note=f"Here {100 * fixed:.0f} %. "
                f"By the means over seeds; fixed is lower {drawn.in_every_seed(scores, '32s fixed', '32s')}."),
            row("Scored alone, a shallower layer is worse: pool3 < pool4 < pool5", ("pool5", "pool4", "pool3"),
                "pool3", "pool4", "pool5"),
            row("No intermediate layer alone reaches the whole net of its stride", ("pool5", "32s", "pool4", "16s", "pool3", "8s staged"),
                holds=all(drawn.ordered(scores, *pair) for pair in (("pool5", "32s"), ("pool4", "16s"), ("pool3", "8s staged"))),
                note="By the means over seeds, for each of the three pairs."),
            row("Training from scratch gives substantially lower accuracy", ("from scratch", "32s"), "from scratch", "32s",
                place="4.4", paper="substantially lower (no figure)"),
        ],
        "numbers": {"mean_iu": scores, "scores": {name: [four(trained[name, seed].scores) for seed in seeds] for name in means},
                    "seconds": {name: [trained[name, seed].seconds for seed in seeds] for name in means}},
        "curves": {name.replace(" ", "-"): drawn.curve([trained[name, seed] for seed in seeds], TITLE, name)
                   for name in ("32s", "32s fixed", "pool5", "pool4", "pool3", "8s at once", "from scratch")},
        "pictures": {"strides": strides([trained[name, seeds[0]] for name in skips], context)},
    }


def nets(context, seed):
    """Return {name: Run}; each stage starts from the one before."""
    images = drawn.SIZE.images
    coarse = drawn.reference(context, seed)
    drop = drawn.DROP
    middle = coarse.but(f"16s-{seed}", options={"finest": 16}, fields={"base_lr": drawn.RATE * drop}, images=images // 2,
                        weights=coarse)
    return {
        "32s": coarse,
        "16s": middle,
        "8s staged": middle.but(f"8s-{seed}", options={"finest": 8}, fields={"base_lr": drawn.RATE * drop ** 2}, weights=middle),
        "8s at once": at_once(context, seed),
        "32s longer": coarse.but(f"32s-longer-{seed}", fields={"base_lr": drawn.RATE * drop}, weights=coarse),
        "32s fixed": coarse.but(f"32s-fixed-{seed}", options={"features": "fixed"}),
        **{pool: coarse.but(f"{pool}-{seed}", options={"only": pool}) for pool in ("pool5", "pool4", "pool3")},
        "from scratch": coarse.but(f"32s-scratch-{seed}", weights=None),
    }


def at_once(context, seed):
    """Return the run of FCN-8s whose streams learn at once, on as many images as the three stages have together."""
    return drawn.reference(context, seed).but(f"8s-atonce-{seed}", options={"finest": 8}, numbers={"scales": SCALES},
                                              images=2 * drawn.SIZE.images)


def four(scores):
    """Return the four scores of a table."""
    return {key: scores[key] for key in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")}


def strides(trained, context, count=4):
    """Return the picture of Fig. 4: image, truth, and what nets of stride 32, 16 and 8 say."""
    found = [training.predictions(context, one, count) for one in trained]
    return drawn.sheet([(*rows[0][1:3], *(row[3] for row in rows)) for rows in zip(*found)])

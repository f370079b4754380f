"""Skips, truncated nets and fixed features (Table 3, Fig. 4)."""

from paper import drawn, training

TITLE = "Skips against single streams, truncated nets and fixed features"
PLACE = "4.3, Table 3"
MINUTES = 9
NEEDS = ()
DEPENDS = drawn.DEPENDS

PAPER = {"32s": 63.6, "16s": 65.0, "8s at once": 65.4, "8s staged": 65.5, "32s fixed": 46.6, "pool5": 50.0, "pool4": 22.4,
         "pool3": 9.2}
ALONE = (("pool5", "32s"), ("pool4", "16s"), ("pool3", "8s staged"))
IMAGES = 2  # times those of the other experiments: FCN-32s, and all stages after it together, see as many
DROP = 0.3  # of the rate with each skip: the paper's 0.01 is for streams of VGG16, whose norms differ by far more than ours


def run(context):
    """Train the eight nets of the table, and one that goes on without a skip."""
    seeds = drawn.SIZE.seeds
    runs = {(name, seed): one for seed in seeds for name, one in nets(context, seed).items()}
    trained = training.train_all(context, runs)
    scores = {name: [trained[name, seed].scores["mean_iu"] for seed in seeds] for name, _ in runs}
    ran = drawn.pictures_of(IMAGES)
    skips = ("32s", "16s", "8s staged")

    def row(claim, ours, *names, what="", place=PLACE, paper=None, holds=None, note=""):
        holds = drawn.ordered(scores, *names) if holds is None else holds
        note = note or f"By the means over seeds; the order holds {drawn.in_every_seed(scores, *names)}."
        return drawn.shape(claim, place, f"{ran}{what}", paper or ", ".join(f"{name} {PAPER[name]}" for name in ours),
                           drawn.listed({name: scores[name] for name in ours}), holds, note)

    means = {name: drawn.mean(values) for name, values in scores.items()}
    gain = means["8s staged"] - means["32s"]
    apart = means["8s at once"] - means["8s staged"]
    fixed, longer = drawn.ratio(scores["32s fixed"], scores["32s"]), means["32s longer"] - means["32s"]
    skip = means["16s"] - means["32s"]
    half = f"; each stage is trained on half the images of the first, at {DROP:g} of the rate of the one before"
    return {
        "rows": drawn.told_once(ran, [
            row("Each skip, from pool4 and then pool3, improves the score", skips, *skips, what=half),
            row("All streams learned at once, in half the time, come close to learning in stages", ("8s at once", "8s staged"),
                what="; at once on half the images of all stages together, streams scaled",
                holds=gain > 0 and means["8s at once"] > means["8s staged"] - gain / 4,
                note=f"Rule: at once is not lower by more than a quarter of what the skips gain ({100 * gain:.1f}); it is "
                f"{100 * abs(apart):.1f} {'higher' if apart > 0 else 'lower'}."),
            row("A lower rate without a skip gains next to nothing", ("32s", "32s longer", "16s"), paper="negligible improvement",
                what="; 32s goes on at the rate and for the images that the first skip is given",
                holds=skip > 0 and longer < skip / 4,
                note=f"Rule: it gains ({100 * longer:+.1f}) less than a quarter of what that skip does ({100 * skip:+.1f})."),
            row("Fine-tuning only the score layer gives 73 % of the score of fine-tuning all layers", ("32s fixed", "32s"),
                "32s fixed", "32s", paper="46.6 of 63.6: 73 %", note=f"Here {100 * fixed:.0f} %. "
                f"By the means over seeds; fixed is lower {drawn.in_every_seed(scores, '32s fixed', '32s')}."),
            row("Scored alone, a shallower layer is worse: pool3 < pool4 < pool5", ("pool5", "pool4", "pool3"),
                "pool3", "pool4", "pool5"),
            row("No intermediate layer alone reaches the whole net of its stride", sum(ALONE, ()),
                holds=all(drawn.ordered(scores, *pair) for pair in ALONE),
                note="By the means over seeds, for each of the three pairs."),
        ]),
        "numbers": {"mean_iu": scores, "scores": {name: [four(trained[name, seed].scores) for seed in seeds] for name in means},
                    "seconds": {name: [trained[name, seed].seconds for seed in seeds] for name in means}},
        "curves": {name.replace(" ", "-"): drawn.curve([trained[name, seed] for seed in seeds], TITLE, name)
                   for name in ("32s", "32s fixed", "pool5", "pool4", "pool3", "8s at once")},
        "pictures": {"strides": strides([trained[name, seeds[0]] for name in skips], context)},
    }


def nets(context, seed):
    """Return {name: Run}; each stage starts from the one before."""
    at_once = drawn.reference(context, seed)
    images = IMAGES * at_once.images
    coarse = at_once.but(f"32s-{seed}", options={"finest": 32}, images=images)
    middle = coarse.but(f"16s-{seed}", options={"finest": 16}, fields={"base_lr": drawn.RATE * DROP}, images=images // 2,
                        numbers={"scales": {}}, weights=coarse)
    return {
        "32s": coarse,
        "16s": middle,
        "8s staged": middle.but(f"8s-{seed}", options={"finest": 8}, fields={"base_lr": drawn.RATE * DROP ** 2}, weights=middle),
        "8s at once": at_once.but(f"8s-atonce-{seed}", images=images),
        "32s longer": coarse.but(f"32s-longer-{seed}", fields={"base_lr": drawn.RATE * DROP}, images=images // 2, weights=coarse),
        "32s fixed": coarse.but(f"32s-fixed-{seed}", options={"features": "fixed"}),
        **{pool: coarse.but(f"{pool}-{seed}", options={"only": pool}) for pool in ("pool5", "pool4", "pool3")},
    }


def four(scores):
    """Return the four scores of a table."""
    return {key: scores[key] for key in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")}


def strides(trained, context, count=4):
    """Return the picture of Fig. 4: image, truth, and what nets of stride 32, 16 and 8 say."""
    found = [training.predictions(context, one, count) for one in trained]
    return drawn.sheet([(*rows[0][1:3], *(row[3] for row in rows)) for rows in zip(*found)])

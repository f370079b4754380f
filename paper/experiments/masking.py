"""What foreground, background and shape tell: masked pictures (Table 8, Fig. 7)."""

import numpy as np

from data import metrics
from data.augment import CONDITIONS, masked
from paper import drawn, training

TITLE = "The role of foreground, background and shape"
PLACE = "6.1, Table 8"
MINUTES = 3
NEEDS = ()
DEPENDS = drawn.DEPENDS

PAPER = {"Reference": 84.8, "Reference-FG": 81.0, "Reference-BG": 19.8, "FG-only": 76.1, "BG-only": 37.8, "Shape": 29.1}


def run(context):
    """Train on whole and on masked pictures, test each condition; mean IU without background."""
    seeds = drawn.SIZE.seeds
    runs = {(name, seed): net(context, name, seed) for seed in seeds for name, (mask, _) in CONDITIONS.items()
            if mask or name == "Reference"}
    trained = training.train_all(context, runs)
    hists = {}
    for seed in seeds:
        for name in CONDITIONS:
            own = trained.get((name, seed))
            hists[name, seed] = own.hist if own else training.scored_with(context, trained["Reference", seed],
                                                                          {"condition": name})
    scores = {name: [metrics.scores(hists[name, seed], [0])["mean_iu"] for seed in seeds] for name in CONDITIONS}
    ran = f"{drawn.pictures_of()}, input masked in training and testing as in the table; mean IU without background"

    def row(claim, *names, note=""):
        return drawn.shape(claim, PLACE, ran, ", ".join(f"{name} {PAPER[name]}" for name in reversed(names)),
                           drawn.listed({name: scores[name] for name in reversed(names)}), drawn.ordered(scores, *names),
                           f"By the means over seeds; it holds {drawn.in_every_seed(scores, *names)}.{note}")

    ranks = [sorted(PAPER, key=PAPER.get), sorted(PAPER, key=lambda name: drawn.mean(scores[name]))]
    kept = drawn.ratio(scores["Reference-FG"], scores["Reference"])
    return {
        "rows": drawn.told_once(ran, [
            drawn.shape("The six conditions of the table in order", PLACE, ran, drawn_table(PAPER), drawn.listed(scores),
                        ranks[0] == ranks[1], f"By the means over seeds; here from low to high: {', '.join(ranks[1])}."),
            row("Masking the foreground at inference is catastrophic; learned without it, classes are still recognised",
                "Reference-BG", "BG-only"),
            drawn.shape("Masking the background at inference has little effect", PLACE, ran, "84.8 to 81.0: 96 % are left",
                        f"{drawn.listed({name: scores[name] for name in ('Reference', 'Reference-FG')})}: {100 * kept:.0f} %",
                        kept > 0.8, "Rule: more than 80 % are left."),
            row("Decisions are driven by the foreground: without background scores stay far above those without foreground",
                "BG-only", "FG-only"),
            row("Shape alone is recognised, less well than from the background", "Shape", "BG-only",
                note=f" Chance is near 0; shape alone reaches {drawn.percent(scores['Shape'])}."),
        ]),
        "numbers": {"mean_iu_without_background": scores,
                    "hist": {name: [hists[name, seed].tolist() for seed in seeds] for name in CONDITIONS}},
        "pictures": {"shape": shapes(context, trained["Shape", seeds[0]])},
    }


def net(context, name, seed):
    """Return the run of a condition; that of the reference is the one that all experiments compare with."""
    one = drawn.reference(context, seed)
    return one if name == "Reference" else one.but(f"{name.lower()}-{seed}", options={"condition": name})


def drawn_table(scores):
    """Return {name: score} as text."""
    return ", ".join(f"{name} {score}" for name, score in scores.items())


def shapes(context, trained, count=4):
    """Return the picture of Fig. 7: image (which the net does not see), truth, output, input."""
    rows = []
    for _, image, truth, output in training.predictions(context, trained, count):
        seen = masked(np.zeros((3, *truth.shape), np.float32), truth, "both", (0, 0, 0))
        rows.append((image, truth, output, np.uint8(np.clip(seen, 0, 255)).transpose(1, 2, 0)))
    return drawn.sheet(rows)

"""Sigmoid instead of softmax, and no background model (4.4, 6.1)."""

from paper import drawn, training

TITLE = "Sigmoid loss and null background"
PLACE = "6.1"
MINUTES = 2
NEEDS = ()
DEPENDS = drawn.DEPENDS

CLOSE = 0.05  # of mean IU: what counts as similar here; seeds alone differ by as much


def run(context):
    """Train with the three losses."""
    seeds = drawn.SIZE.seeds
    runs = {(name, seed): one for seed in seeds for name, one in nets(context, seed).items()}
    trained = training.train_all(context, runs)
    scores = {name: [trained[name, seed].scores["mean_iu"] for seed in seeds] for name, _ in runs}
    means = {name: drawn.mean(values) for name, values in scores.items()}
    ran = drawn.pictures_of()
    similar = abs(means["sigmoid"] - means["softmax"])
    lost = means["sigmoid"] - means["null background"]
    return {
        "rows": drawn.told_once(ran, [
            drawn.shape("The sigmoid cross-entropy loss, each class by itself, gives similar results", "4.4", ran, "similar",
                        drawn.listed({name: scores[name] for name in ("softmax", "sigmoid")}), similar < CLOSE,
                        f"Rule: the means differ by less than {100 * CLOSE:.0f} points; they differ by {100 * similar:.1f}."),
            drawn.shape("A background score that is constantly 0 costs about one point: learning a background model is not vital",
                        PLACE, ran, "1 point lower than sigmoid and softmax", drawn.listed(scores), abs(lost) < CLOSE,
                        f"Rule: it differs from the sigmoid net by less than {100 * CLOSE:.0f} points; it is "
                        f"{abs(100 * lost):.1f} {'lower' if lost > 0 else 'higher'}."),
        ]),
        "numbers": {"mean_iu": scores},
        "curves": {name.replace(" ", "-"): drawn.curve([trained[name, seed] for seed in seeds], TITLE, name) for name in means},
    }


def nets(context, seed):
    """Return {name: Run}."""
    softmax = drawn.reference(context, seed)
    sigmoid = softmax.but(f"sigmoid-{seed}", options={"loss": "sigmoid"})
    return {"softmax": softmax, "sigmoid": sigmoid,
            "null background": sigmoid.but(f"null-{seed}", options={"background": "null"})}

"""Loss sampling: cells of the loss are kept with probability p, batches are 1/p as large (4.4, Fig. 5)."""

from paper import drawn, training

TITLE = "Whole images against sampled patches"
PLACE = "4.4, Fig. 5"
MINUTES = 4
NEEDS = ()
DEPENDS = drawn.DEPENDS

KEPT = (1.0, 0.5, 0.25)


def run(context):
    """Train with each p for as many updates, on 1/p as many images."""
    seeds = drawn.SIZE.seeds[:2]  # a quarter of the cells takes four times the images
    trained = training.train_all(context, {(p, seed): net(context, p, seed) for p in KEPT for seed in seeds})
    scores = {f"p = {p:g}": [trained[p, seed].scores["mean_iu"] for seed in seeds] for p in KEPT}
    seconds = {p: drawn.mean(trained[p, seed].seconds for seed in seeds) for p in KEPT}
    losses = {p: [trained[p, seed].losses for seed in seeds] for p in KEPT}
    means = [drawn.mean(values) for values in scores.values()]
    # What the order of images alone does is the measure of what is an effect.
    whole = scores["p = 1"]
    spread = max(whole) - min(whole)
    apart, allowed = max(abs(one - means[0]) for one in means[1:]), max(0.05, spread)
    ran = (f"{drawn.pictures_of(seeds=seeds)}; a cell of the finest stream (8x8 labels) kept with probability p = "
           f"{', '.join(f'{p:g}' for p in KEPT)}, 1/p images an update, as many updates")
    return {
        "rows": drawn.told_once(ran, [
            drawn.shape("Sampling has no significant effect on the convergence rate for a fixed expected batch size", PLACE, ran,
                        "curves lie on each other", drawn.listed(scores), apart < allowed,
                        f"Rule: after as many updates the means differ by less than 5 points, or less than seeds do "
                        f"({100 * spread:.1f}); they differ by {100 * apart:.1f}."),
            drawn.shape("It takes significantly more time, for the larger number of images", PLACE, ran, "slower",
                        ", ".join(f"p = {p:g}: {seconds[p] / seconds[1.0]:.1f} times the time" for p in KEPT[1:]),
                        all(seconds[a] < seconds[b] for a, b in zip(KEPT, KEPT[1:])),
                        f"Processor time; images looked at: {', '.join(f'{1 / p:g}' for p in KEPT)} times."),
        ]),
        "numbers": {"mean_iu": scores, "seconds": seconds,
                    "iu": {f"{p:g}": [trained[p, seed].iu() for seed in seeds] for p in KEPT}},
        "curves": {
            **{f"updates-{p:g}".replace(".", "_"): loss(losses[p], None, p) for p in KEPT},
            **{f"time-{p:g}".replace(".", "_"): loss(losses[p], seconds[p] / seconds[1.0], p) for p in KEPT},
        },
    }


def net(context, p, seed):
    """Return the run with the share p of cells kept; p = 1 is the run that all experiments compare with."""
    one = drawn.reference(context, seed)
    if p == 1:
        return one
    # Caffe divides by the images of a batch: the rate makes the sum over the kept cells of all of them again.
    return one.but(f"sampled-{100 * p:.0f}-{seed}", options={"sampling": p}, images=round(one.images / p),
                   fields={"base_lr": drawn.RATE / p, "weight_decay": 0.0005 * p})


def loss(pairs, stretch, p):
    """Return a curve of the training loss an image, by updates or, with `stretch`, by time."""
    updates = [iteration for iteration, _ in pairs[0]]
    last = updates[-1]
    # Of 1/p images with the share p of their cells each: Caffe's mean over the batch times 1/p is what p = 1 sums.
    values = [drawn.mean(one) / p for one in zip(*([value for _, value in each] for each in pairs))]
    return {"x": [one if stretch is None else one / last * stretch for one in updates], "y": values, "label": f"p = {p:g}",
            "figure": "Loss by updates" if stretch is None else "Loss by time", "y_label": "loss an image, mean of 20 updates",
            "x_label": "updates" if stretch is None else "time, whole images = 1"}

"""Accumulation, online and heavy learning over the same sequence of images (Table 2)."""

from paper import drawn, training

TITLE = "Accumulated, online and heavy learning over the same images"
PLACE = "4.2, Table 2"
MINUTES = 4
NEEDS = ()
DEPENDS = drawn.DEPENDS

PAPER = {"accum": 51.9, "online": 60.7, "heavy": 63.6}
# The paper gives no rates for the first two; the best of these on the first seed is taken for all seeds.
RATES = {"accum": (6e-7, 2e-6, 6e-6), "online": (5e-8, 1.5e-7, 5e-7), "heavy": (7e-9, 2e-8, 6e-8)}


def run(context):
    """Search each rate on one seed, train the other seeds with it."""
    first, *others = drawn.SIZE.seeds
    search = {(how, rate): net(context, how, rate, first) for how, rates in RATES.items() for rate in rates}
    found = training.train_all(context, search, 0, 0.6)
    reached = {how: {rate: best(found[how, rate]) for rate in rates} for how, rates in RATES.items()}
    chosen = {how: max(rates, key=rates.get) for how, rates in reached.items()}
    more = {(how, seed): net(context, how, chosen[how], seed) for seed in others for how in RATES}
    more = training.train_all(context, more, 0.6, 1)
    trained = {how: [found[how, chosen[how]], *(more[how, seed] for seed in others)] for how in RATES}
    scores = {how: [best(one) for one in all_seeds] for how, all_seeds in trained.items()}
    ran = (f"{drawn.pictures_of()}; the same sequence of images for the three; best of {drawn.SIZE.points} scores on the way; "
           "rates " + ", ".join(f"{how} {rate:g}" for how, rate in chosen.items()) + " by line search on the first seed")

    def row(claim, *names, note=""):
        return drawn.shape(claim, PLACE, ran, ", ".join(f"{name} {PAPER[name]}" for name in names),
                           drawn.listed({name: scores[name] for name in names}), drawn.ordered(scores, *names),
                           f"By the means over seeds; it holds {drawn.in_every_seed(scores, *names)}.{note}")

    return {
        "rows": drawn.told_once(ran, [
            row("Online learning, an update for every image, scores higher than accumulation over 20", "accum", "online"),
            row("High momentum (0.99, \"heavy\") scores higher still", "online", "heavy",
                note=f" A momentum of 0.99 remembers 100 updates: {drawn.SIZE.images} are few for it, the paper has 100,000."),
            row("Heavy learning scores higher than accumulation, which 6.2 calls approximately equivalent", "accum", "heavy"),
        ]),
        "numbers": {"rates": {how: {f"{rate:g}": one for rate, one in rates.items()} for how, rates in reached.items()},
                    "chosen": chosen, "mean_iu": scores,
                    "scores": {how: [four(one.best()) for one in all_seeds] for how, all_seeds in trained.items()}},
        "curves": {how: drawn.curve(all_seeds, TITLE, how) for how, all_seeds in trained.items()},
    }


def net(context, how, rate, seed):
    """Return the run of a net that learns in one of the three ways."""
    base = drawn.reference(context, seed)
    if how == "online" and rate == drawn.RATE:
        return base  # the one that the other experiments compare with
    name = f"{how}-{rate:g}-{seed}".replace(".", "_")
    return base.but(name, options={"learning": how}, fields={"base_lr": rate}, may_diverge=True)


def best(trained):
    """Return the best mean IU on the way, 0 of a run that diverged."""
    return 0.0 if trained.diverged else trained.best()["mean_iu"]


def four(scores):
    """Return the four scores of a table."""
    return {key: scores[key] for key in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")}

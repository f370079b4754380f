"""Max instead of sum, and learned instead of fixed upsampling between streams (4.3)."""

from paper import drawn, training

TITLE = "Max fusion and learned interpolation"
PLACE = "4.3"
MINUTES = 2
NEEDS = ()
DEPENDS = drawn.DEPENDS

CLOSE = 0.05  # of mean IU


def run(context):
    """Train FCN-8s at once with each."""
    seeds = drawn.SIZE.seeds
    runs = {(name, seed): one for seed in seeds for name, one in nets(context, seed).items()}
    trained = training.train_all(context, runs)
    scores = {name: [trained[name, seed].scores["mean_iu"] for seed in seeds] for name, _ in runs}
    ran = f"{drawn.pictures_of()}; FCN-8s at once"
    lost = drawn.mean(scores["sum"]) - drawn.mean(scores["max"])
    apart = abs(drawn.mean(scores["learned"]) - drawn.mean(scores["sum"]))
    return {
        "rows": drawn.told_once(ran, [
            drawn.shape("Learning is difficult with max fusion, for the gradient switches between streams", PLACE, ran,
                        "difficult (no figure)", drawn.listed({"max": scores["max"], "sum": scores["sum"]}),
                        lost > CLOSE,
                        f"Rule: max scores lower by more than {100 * CLOSE:.0f} points; they differ by {100 * lost:.1f}, max is "
                        f"lower {drawn.in_every_seed(scores, 'max', 'sum')}."),
            drawn.shape("Learning the interpolation between streams makes no significant difference", PLACE, ran,
                        "learned in the paper, fixed in the published nets", drawn.listed(
                            {"learned": scores["learned"], "fixed": scores["sum"]}), apart < CLOSE,
                        f"Rule: the means differ by less than {100 * CLOSE:.0f} points; they differ by {100 * apart:.1f}. "
                        "The README of the published models says so; the paper gives no comparison."),
        ]),
        "numbers": {"mean_iu": scores},
        "curves": {name: drawn.curve([trained[name, seed] for seed in seeds], TITLE, label)
                   for name, label in (("sum", "sum, fixed"), ("max", "max, fixed"), ("learned", "sum, learned"))},
    }


def nets(context, seed):
    """Return {name: Run}; "sum" is the run that all experiments compare with."""
    one = drawn.reference(context, seed)
    return {"sum": one, "max": one.but(f"8s-max-{seed}", options={"fusion": "max"}),
            "learned": one.but(f"8s-learned-{seed}", options={"interpolation": "learned"})}

"""Caffe's `caffe test`: run a net over so many batches of its data and log every output, then the means."""

from solvers import log, solver


def test(net, iterations, each=lambda batches: batches):
    """Run forward `iterations` times; return (mean loss, [(output name, means of its values)]).

    The log has Caffe's lines: each value of each batch, the loss, and each mean with its loss weight. Sums are taken in
    float64, in the order of the batches. `each` may wrap the batches, such as with a progress bar.
    """
    log.info("caffe.cpp:285", f"Running for {iterations} iterations.")
    weights, sums, loss, told = solver.loss_weights(net), {}, 0.0, set()
    for batch in each(range(iterations)):
        loss += net.forward_from_to(0, len(net.layers) - 1)
        for name, values in solver.outputs(net):
            for value in values[:solver.MOST_LINES]:
                log.info("caffe.cpp:311", f"Batch {batch}, {name} = {log.number(value)}")
            if name in sums and len(sums[name]) != len(values):
                told.add(name)
            sums[name] = values if batch == 0 or name in told else sums[name] + values
    log.info("caffe.cpp:316", f"Loss: {log.number(loss / iterations)}")
    means = [(name, total / iterations) for name, total in sums.items() if name not in told]
    for name, values in means:
        weight = weights.get(name, 0)
        for value in values[:solver.MOST_LINES]:
            part = f" (* {log.number(weight)} = {log.number(weight * value)} loss)" if weight else ""
            log.info("caffe.cpp:328", f"{name} = {log.number(value)}{part}")
    for name in sorted(told):
        log.warning("caffe.cpp:328", f"'{name}' has another number of values in each batch: no mean")
    return loss / iterations, means

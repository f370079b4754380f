"""The training recipes of sections 4.1 to 4.3, as the solver and net files that the recipes write say them."""

import importlib

from paper.experiment import exact

TITLE = "The recipes of training"
PLACE = "4.1"
MINUTES = 0.05
NEEDS = ()
STAGED = ("fcn32s", "fcn16s", "fcn8s")


def run(context):
    """Read what the recipes write."""
    alexnet, heavy, atonce = (model(name).solver() for name in ("fcn_alexnet", "fcn32s", "fcn8s_atonce"))
    rates = [model(name).solver().base_lr for name in STAGED]
    drops = [f"{a / b:.0f}" for a, b in zip(rates, rates[1:])]
    scores = [layer for name in ("fcn_alexnet", *STAGED) for layer in layers_of(name, "Convolution") if layer.name[:5] == "score"]
    zero = not any(layer.convolution_param.HasField("weight_filler") for layer in scores)
    doubled, layers = doubled_biases("fcn32s")
    scales = {layer.name: layer.scale_param.filler.value for layer in layers_of("fcn8s_atonce", "Scale")}
    published, option = (sum(not layer.param or layer.param[0].lr_mult != 0 for layer in layers_of("fcn8s", "Deconvolution", **given))
                         for given in ({}, {"interpolation": "learned"}))
    return {"rows": [
        exact("Gradients are accumulated over 20 images, momentum is 0.9", "4.1", "the solver file of FCN-AlexNet", "20; 0.9",
              f"{alexnet.iter_size}; {alexnet.momentum:g}", (alexnet.iter_size, round(alexnet.momentum, 6)) == (20, 0.9),
              f"Its weight decay is {alexnet.weight_decay:g}. The paper prints 5^-4 or 2^-4, which would be 0.0016 and 0.0625, "
              "for 5e-4 and 2e-4; likewise 5^-5."),
        exact("The class scoring layer starts at zero", "4.1", "score layers of FCN-AlexNet and FCN-32s, -16s, -8s have no "
              "filler, and Caffe's is the constant 0", "zero", "zero" if zero else "filled", zero),
        exact("Biases learn at twice the rate", "4.1", "rates in the prototxt of FCN-32s", "doubled",
              f"{doubled} of {layers} layers", doubled == layers,
              "In the published FCN-AlexNet the layers of AlexNet say no rate: there weights and biases learn alike."),
        exact("Heavy learning: batches of one image, momentum 0.99, a loss that is not normalised", "4.2, Table 2",
              "the solver and net files of FCN-32s", "1; 0.99; a sum",
              f"{heavy.iter_size}; {heavy.momentum:g}; {loss_of('fcn32s')}",
              (heavy.iter_size, round(heavy.momentum, 6), loss_of("fcn32s")) == (1, 0.99, "a sum"),
              "Caffe's normalize: false divides by the number of images, which is one."),
        exact("The rate drops 100 times from FCN-32s to FCN-16s and again to FCN-8s", "4.3", "base_lr of the three solver files",
              "100, 100", ", ".join(drops), drops == ["100", "100"],
              f"Their rates are {', '.join(f'{rate:g}' for rate in rates)}. "
              "The published SIFT Flow FCN-8s does not drop a second time."),
        exact("All-at-once training scales each stream by a fixed constant", "4.3",
              "Scale layers of FCN-8s at once", "fixed constants", ", ".join(f"{name} {value:g}" for name, value in scales.items()), len(scales) == 2,
              f"Its rate is that of FCN-32s ({atonce.base_lr:g}) and it has 300,000 iterations, as many as the three stages "
              "together: by these files it does not take half the time."),
        exact("The last upsampling is fixed, those between streams are learned", "4.3, 4.4", "rates of the deconvolutions of "
              "FCN-8s as published, and with `interpolation=learned`", "2 of 3 learned",
              f"{published} as published, {option} with the option",
              published == 2, "Text and published files disagree; both can be had."),
    ], "numbers": {"rates": rates}}


def model(name):
    """Return the recipe of a model."""
    return importlib.import_module(f"models.{name}.net")


def layers_of(name, kind, **options):
    """Return the layers of one type in a model's training net."""
    return [layer for layer in model(name).net("train", **options).layer if layer.type == kind]


def doubled_biases(name):
    """Return (layers whose bias learns at twice the rate of the weights, layers that learn)."""
    learning = layers_of(name, "Convolution")
    return sum([one.lr_mult for one in layer.param] == [1, 2] for layer in learning), len(learning)


def loss_of(name):
    """Say whether a net's loss is the sum over pixels or their mean."""
    loss, = layers_of(name, "SoftmaxWithLoss")
    return "a mean" if loss.loss_param.normalize else "a sum"

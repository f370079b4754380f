"""The catalogue: one layer type a file, named as Caffe names it. `layers.core` holds the machines."""

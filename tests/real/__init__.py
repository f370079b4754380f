"""Held against what nobody here made: published weights and what Caffe computed with them."""

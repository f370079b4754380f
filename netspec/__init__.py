"""Words: all that can be said of a net without running it (text, graph, shapes, weights in files)."""

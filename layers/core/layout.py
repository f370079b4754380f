"""Values of several blobs as flat arrays in one layout, for layers that treat each value by itself.

Blocks have zeros around the images and in missing channels; what is done must leave zeros zero.
"""


def together(reads, target):
    """Return (flat arrays to read, flat array to write), in blocks where all are and the target may be, else NCHW.

    Parameters
    ----------
    reads : list of (Blob, bool)
        Blobs of one shape, and whether their gradients are meant.
    target : (Blob, bool)
        Will be written whole; may be one of `reads`.
    """
    memories = [blob.memory(diff) for blob, diff in reads]
    blob, diff = target
    memory, planned = blob.memory(diff), blob.diff_blocks if diff else blob.blocks
    wanted = [one.diff_blocks if which else one.blocks for one, which in reads]
    if all(each.to_blocks(blob.shape) if planned and may else each.in_blocks(blob.shape) for each, may in zip(memories, wanted)):
        if memory in memories:
            memory.changed()
        else:
            blob.write(diff)
        # Joined channels of several images do not lie in one piece.
        if memory.in_blocks(blob.shape) and all(each.blocked.array.flags.c_contiguous for each in (*memories, memory)):
            return [each.blocked.array.reshape(-1) for each in memories], memory.blocked.array.reshape(-1)
    return [each.peek(which).reshape(-1) for each, which in reads], (blob.diff if diff else blob.data).reshape(-1)

"""Random numbers of their own for each purpose, so that one that draws more leaves the others' draws alone."""

import hashlib

import torch


def generator_for(purpose: str, device: str = "cpu") -> torch.Generator:
    """A generator seeded by the text alone."""
    digest = hashlib.sha256(purpose.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)

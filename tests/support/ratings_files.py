"""Ratings for tests: files written by hand, and ratings made from factors that are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Planted:
    """Ratings whose factors are known: rating = 3 + biases + user_factors . item_factors + noise."""

    path: Path
    user_UF: np.ndarray
    item_IF: np.ndarray


def write_rows(path: Path, *rows: str, header: str = "user,item,rating") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def small(path: Path, users: int = 30, items: int = 20, seed: int = 0) -> Path:
    """A file of a few hundred ratings from 1 to 5 that follow two tastes."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for item in range(items):
            if random.random() < 0.6:
                likes = (user % 2) == (item % 2)
                rows.append(f"u{user},i{item},{int(np.clip(round(random.normal(4.2 if likes else 2, 0.5)), 1, 5))}")
    return write_rows(path, *rows)


def planted(path: Path, users: int = 2000, items: int = 1000, factors: int = 5, noise: float = 0.3, ratings: int = 400_000) -> Planted:
    random = np.random.default_rng(0)
    user_UF, item_IF = random.normal(0, 0.6, (users, factors)), random.normal(0, 0.6, (items, factors))
    user_bias_U, item_bias_I = random.normal(0, 0.3, users), random.normal(0, 0.3, items)
    pairs = random.choice(users * items, ratings, replace=False)
    user_N, item_N = pairs // items, pairs % items
    rating_N = 3 + user_bias_U[user_N] + item_bias_I[item_N] + (user_UF[user_N] * item_IF[item_N]).sum(1) + random.normal(0, noise, ratings)
    lines = (f"u{u},i{i},{r:.4f}" for u, i, r in zip(user_N.tolist(), item_N.tolist(), rating_N.tolist(), strict=True))
    return Planted(write_rows(path, *lines), user_UF, item_IF)

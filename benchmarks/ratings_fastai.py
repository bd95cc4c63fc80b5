"""fastai's side of benchmarks/ratings.py, run by it in an environment of its own: collab_learner on the same split.

Prints one line of JSON. `python ratings_fastai.py FILE SEED BATCH LR EPOCHS FACTORS DECAY LOW HIGH`.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    import fastai
    import pandas
    import torch
    from fastai.callback.schedule import Learner  # noqa: F401 - the schedules add fit_one_cycle to Learner
    from fastai.collab import CollabDataLoaders, collab_learner
    from fastai.data.transforms import IndexSplitter
    from fastai.torch_core import set_seed

    path, seed, batch, lr, epochs, factors, decay, low, high = sys.argv[1], *(float(word) for word in sys.argv[2:])
    set_seed(int(seed), reproducible=True)
    ratings = pandas.read_csv(path).sort_values("timestamp")[["user", "item", "rating"]].reset_index(drop=True)
    held = list(range(len(ratings) - round(0.2 * len(ratings)), len(ratings)))
    loaders = CollabDataLoaders.from_df(ratings, bs=int(batch), splitter=IndexSplitter(held))
    learner = collab_learner(loaders, n_factors=int(factors), y_range=(low, high))
    with learner.no_bar(), learner.no_logging():
        begin, begin_cpu = time.perf_counter(), time.process_time()
        learner.fit_one_cycle(int(epochs), lr, wd=decay)
        seconds, cpu_seconds = (time.perf_counter() - begin) / epochs, (time.process_time() - begin_cpu) / epochs
        rmse = float(learner.validate()[0]) ** 0.5
    versions = {"fastai": fastai.__version__, "torch": str(torch.__version__)}
    print(json.dumps({"rmse": rmse, "seconds": seconds, "cpu_seconds": cpu_seconds, "versions": versions}))


if __name__ == "__main__":
    main()

"""What the page can ask for: one method a route, each a few lines over the lab's parts. Called in worker threads (app.py), knows no HTTP.

A method receives an `Ask` and returns a JSON value, or a whole response where it is not JSON. Those below "with torch" are called one at a time.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from convscope.lab import compare, files, jobs, questions
from convscope.lab.exchange import Fields, query_whole
from convscope.lab.runs import DEFAULTS, RunsFolder, detail_of
from convscope.rundir import RunDir
from convscope.version import VERSION

if TYPE_CHECKING:
    from convscope.lab.network import Networks, Subject

MOST_IMAGES = 60  # of one answer
STARTING = {"state": "starting", "message": None, "stoppable": True}
WORKBOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@dataclass(frozen=True, slots=True)
class Lab:
    """One session of the lab.

    Attributes:
        runs: the folder of runs.
        opened: the run that was named on the command line, or None.
        port: where it listens; token: of the session.
        ending: set when the lab ends, so that streams do.
    """

    runs: RunsFolder
    opened: str | None
    port: int
    token: str
    ending: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        place: what the path names, such as "run".
        query: of the address.
        fields: of the body, empty for GET.
        known: the tag of the version that the browser has, or None.
        takes_gzip: whether it can decompress an answer.
    """

    place: Mapping[str, Any]
    query: Mapping[str, str] = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    known: str | None = None
    takes_gzip: bool = False


class Api:
    """The answers of one session."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.jobs = lab, jobs.Jobs(lab.runs)
        self._networks: Networks | None = None
        self._loading, self._ready = threading.Lock(), threading.Event()

    # ------------------------------------------------------------ without torch

    def index(self, _: Ask) -> Response:
        """The page."""
        return files.index(self.lab.token)

    def file(self, ask: Ask) -> Response:
        """A file of the page."""
        return files.file(ask.place["path"], ask.known)

    def state(self, _: Ask) -> dict[str, Any]:
        """What the page must know at its start."""
        return {
            "version": VERSION,
            "data": jobs.DATA,
            "models": jobs.MODELS,
            "inits": jobs.INITS,
            "schedules": jobs.SCHEDULES,
            "defaults": DEFAULTS,
            "training": self.jobs.training(),
            "opened": self.lab.opened,
            "runs_folder": str(self.lab.runs.path),
            "ready": self._ready.is_set(),
        }

    def runs(self, _: Ask) -> dict[str, Any]:
        """All runs, the newest first."""
        starting, rows = self.jobs.starting(), self.lab.runs.rows()
        if starting is None:
            return {"runs": rows}
        known = next((row for row in rows if row["run"] == starting), {"run": starting, "can_inspect": False})
        return {"runs": [{**known, **STARTING}, *(row for row in rows if row["run"] != starting)]}

    def run(self, ask: Ask) -> dict[str, Any]:
        """One run."""
        run = self._run(ask)
        return detail_of(run) | (STARTING if self.jobs.starting() == run.path.name else {})

    def train(self, ask: Ask) -> dict[str, Any]:
        """Begin to train."""
        return {"run": self.jobs.start(jobs.settings_from(ask.fields))}

    def stop(self, ask: Ask) -> dict[str, Any]:
        """Ask a run to save and end."""
        return {"state": self.jobs.stop(ask.place["run"])}

    def resume(self, ask: Ask) -> dict[str, Any]:
        """Go on with a run."""
        return {"run": self.jobs.resume(self._run(ask))}

    def compare(self, ask: Ask) -> dict[str, Any] | Response:
        """The shipped pairs, or some runs side by side."""
        if "runs" in ask.query:
            return compare.of_runs([self.lab.runs.find(name) for name in ask.query["runs"].split(",")])
        content = compare.shipped()
        if ask.takes_gzip:
            return Response(content, media_type="application/json", headers={"content-encoding": "gzip"})
        return Response(gzip.decompress(content), media_type="application/json")

    def questions(self, _: Ask) -> dict[str, Any]:
        """All questions."""
        return questions.listed()

    def question(self, ask: Ask) -> dict[str, Any]:
        """One question."""
        return questions.shown(questions.number_of(ask.place["number"]))

    def rate(self, ask: Ask) -> dict[str, Any]:
        """Note how well a question was answered."""
        return questions.rated(questions.number_of(ask.place["number"]), ask.fields)

    # ------------------------------------------------------------ with torch

    def warm(self) -> Networks:
        """What was loaded, and torch with it."""
        with self._loading:
            if self._networks is None:
                import torch

                from convscope.lab.network import Networks, rehearse

                torch.set_num_threads(1)  # one image is no work for two, and another core may be training
                rehearse()
                self._networks = Networks()
                self._ready.set()
            return self._networks

    def images(self, ask: Ask) -> dict[str, Any]:
        """Some of a run's validation images."""
        first, count = query_whole(ask.query, "first", 0, 10**9, 0), query_whole(ask.query, "count", 1, MOST_IMAGES, 24)
        return self._subject(ask).images(first, count, ask.query.get("label") or None, ask.query.get("wrong") == "1")

    def inside(self, ask: Ask) -> dict[str, Any]:
        """Every layer's activations for an image."""
        return self._subject(ask).inside(ask.fields)

    def kernels_of(self, ask: Ask) -> dict[str, Any]:
        """A layer's kernels."""
        return self._subject(ask).kernels(ask.place["layer"])

    def trace(self, ask: Ask) -> dict[str, Any]:
        """The products behind an activation."""
        return self._subject(ask).trace(ask.fields)

    def workbook(self, ask: Ask) -> Response:
        """A network as a live workbook."""
        name = f"{self._run(ask).path.name}.xlsx"  # a run's name needs no quoting
        content = self._subject(ask).workbook(ask.fields)
        return Response(content, media_type=WORKBOOK, headers={"content-disposition": f'attachment; filename="{name}"'})

    def kernels(self, _: Ask) -> dict[str, Any]:
        """The named kernels and images."""
        from convscope.lab import kernels

        return kernels.known()

    def kernel(self, ask: Ask) -> dict[str, Any]:
        """A kernel on an image."""
        from convscope.lab import kernels

        return kernels.apply(ask.fields, self._pixels)

    def kernel_pixel(self, ask: Ask) -> dict[str, Any]:
        """One place of a kernel's output."""
        from convscope.lab import kernels

        return kernels.pixel(ask.fields, self._pixels)

    def answer(self, ask: Ask) -> dict[str, Any]:
        """Grade an answer."""
        return questions.graded(questions.number_of(ask.place["number"]), ask.fields)

    def demonstration(self, ask: Ask) -> dict[str, Any]:
        """A question's computed answer."""
        return questions.demonstrated(questions.number_of(ask.place["number"]))

    # ------------------------------------------------------------ inside

    def _run(self, ask: Ask) -> RunDir:
        return self.lab.runs.find(ask.place["run"])

    def _subject(self, ask: Ask) -> Subject:
        return self.warm().of(self._run(ask))

    def _pixels(self, run: str, image: Fields) -> Any:
        return self.warm().of(self.lab.runs.find(run)).picture(image).pixels_CHW

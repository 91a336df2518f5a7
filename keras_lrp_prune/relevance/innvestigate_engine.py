"""LRP by iNNvestigate itself, in a worker process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.graph.plain import to_plain
from keras_lrp_prune.relevance.analyzers import check_analyzer, make_composite
from keras_lrp_prune.relevance.dialect import check_dialect
from keras_lrp_prune.relevance.lrp_engine import LRPEngine
from keras_lrp_prune.relevance.worker_process import WorkerError, WorkerProcess, borrow, give_back
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE

INSTALL_LINE = "pip install --no-deps --ignore-requires-python innvestigate==2.1.2 future"
VERSION = "2.1.2"


class MissingInnvestigateError(ImportError):
    """iNNvestigate is not installed where the worker runs."""


class InnvestigateEngine(LRPEngine):
    """The reference: iNNvestigate's own analyzers.

    Making it costs seconds, for iNNvestigate's graph; a relevance pass then costs a few forward
    passes, and a new mask a weight update. Engines that are used one after another share a process.

    Args:
        graph: The model.
        analyzer: An iNNvestigate analyzer's name, such as `"lrp.sequential_preset_a"`.
        options: Keyword arguments of the analyzer.
        two_class: Whether a single sigmoid or logit unit is read as two classes.
        batch_size: Samples per batch.
        python: The worker's interpreter, see `WorkerProcess`.

    Raises:
        ValueError: For an unknown analyzer or option, or an unsuitable value of one.
        UnsupportedModelError: If the model has layers outside the tested dialect.
        MissingInnvestigateError: If the worker's interpreter has no iNNvestigate.
    """

    name = "innvestigate"

    def __init__(
        self,
        graph: ModelGraph,
        analyzer: str,
        options: Mapping[str, Any] | None = None,
        *,
        two_class: bool = False,
        batch_size: int = DEFAULT_BATCH_SIZE,
        python: str | None = None,
    ) -> None:
        check_analyzer(analyzer, options or {})
        make_composite(analyzer, options or {})  # checks the values before the worker is started
        super().__init__(graph, two_class=two_class, batch_size=batch_size)
        check_dialect(self._graph, analyzer)
        plain, arrays = to_plain(self._graph)
        self._borrowed: WorkerProcess | None = borrow(python)
        try:
            self._check_installed()
            self._worker.ask(
                {
                    "do": "analyze",
                    "graph": plain,
                    "analyzer": analyzer,
                    "options": dict(options or {}),
                    "layers": list(self._widths),
                },
                arrays,
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the worker process back; it ends after a minute if nobody else needs it."""
        worker, self._borrowed = self._borrowed, None
        if worker is not None:
            give_back(worker)

    @property
    def _worker(self) -> WorkerProcess:
        if self._borrowed is None:
            raise WorkerError("This engine has been closed.")
        return self._borrowed

    def _channel_sums(
        self, x: np.ndarray, y: np.ndarray, *, every_class: bool = False
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        totals: dict[str, np.ndarray] = {}
        outputs = []
        for samples, own in self._batches(x, y):
            explained = range(self.n_classes) if every_class else (own,)
            for one in explained:
                classes = np.broadcast_to(one, own.shape)
                rows, scores = self._rows(samples, classes)
                self._add(totals, rows, classes)
            outputs.append(scores)
        return totals, np.concatenate(outputs)

    def _channel_magnitudes(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        totals: dict[str, np.ndarray] = {}
        outputs = []
        for samples, own in self._batches(x, y):
            rows, scores = self._rows(samples, own)
            # Its analyzers start at the score; what they do is proportional to what they start at.
            start = np.abs(np.take_along_axis(scores, own[:, None], 1)).astype(np.float64)
            share = np.divide(1, start, out=np.zeros_like(start), where=start > 0)
            self._add(totals, {name: np.abs(one) * share for name, one in rows.items()}, own)
            outputs.append(scores)
        return totals, np.concatenate(outputs)

    def _rows(self, x: np.ndarray, y: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Relevance of the channels of each layer, `(samples, channels)`, and the outputs."""
        rows = self._ask("filter_relevance", x, y)
        return rows, rows.pop("the outputs")

    def _add(
        self, totals: dict[str, np.ndarray], rows: dict[str, np.ndarray], classes: np.ndarray
    ) -> None:
        """Adds the rows of a batch to the sums of their classes."""
        for name, values in rows.items():
            sums = np.zeros((self.n_classes, values.shape[-1]))
            np.add.at(sums, classes, values.astype(np.float64))
            totals[name] = totals[name] + sums if name in totals else sums

    def _mask(self, news: Mapping[str, np.ndarray]) -> None:
        self._worker.ask({"do": "mask"}, dict(news))

    def _set_weights(self, layer: str, weights: Mapping[str, np.ndarray]) -> None:
        self._worker.ask({"do": "set_weights", "layer": layer}, dict(weights))

    def _input_relevance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [
                self._ask("input_relevance", samples, outputs)["relevance"]
                for samples, outputs in self._batches(x, y)
            ]
        )

    def _batches(self, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(x), self._batch_size):
            part = slice(start, start + self._batch_size)
            yield np.asarray(self._preprocess(np.asarray(x[part], np.float32))), y[part]

    def _ask(self, what: str, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        return self._worker.ask({"do": what}, {"x": x, "y": np.ascontiguousarray(y)})[1]

    def _check_installed(self) -> None:
        versions, _ = self._worker.ask({"do": "versions"})
        found, python = versions["innvestigate"], self._worker.python
        if found is None or versions["tf-keras"] is None:
            raise MissingInnvestigateError(
                f"iNNvestigate is not installed for {python}. Install it there with:\n"
                f"    {INSTALL_LINE}\n"
                "or name another interpreter that has it, or choose engine='native'."
            )
        if found != VERSION:
            raise MissingInnvestigateError(
                f"iNNvestigate {found} is installed for {python}, but {VERSION} is needed:\n"
                f"    {INSTALL_LINE}"
            )

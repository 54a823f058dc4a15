"""The training loop of `fit` on each worker: batches, loss, gradients, held-out NDCG, resume; rank 0 writes the towers.

B queries of a batch, K examples of each query, N examples of the batch on all workers together, D dimensions.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import ray.train
import torch
import torch.distributed as dist

from cluster.artifacts import write_text
from cluster.models import local_folder
from cluster.training import Steps, on_gpu
from retrieval.fit_worker_args import Settings
from retrieval.lambdarank import in_batch_loss, lambdarank_loss, mixed_loss
from retrieval.ndcg import NDCG_AT, order_ndcg, random_ndcg
from retrieval.towers import Towers


class Query(NamedTuple):
    """Row numbers of the texts, and the utility of each example."""

    task: str
    query: int
    examples: list[int]
    utilities: list[float]


class Data:
    """The texts with their groups, and the queries to train on and to test on."""

    def __init__(self, folder: str) -> None:
        texts = pq.read_table(Path(folder) / "texts.parquet")
        self.texts: list[str] = texts.column("text").to_pylist()
        names: list[str] = texts.column("group").to_pylist()
        known = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self.groups = torch.tensor([known[name] for name in names])
        self.train = self._queries(Path(folder) / "train.parquet")
        self.dev = self._queries(Path(folder) / "dev.parquet")

    @staticmethod
    def _queries(path: Path) -> list[Query]:
        return [Query(**row) for row in pq.read_table(path).to_pylist()]


def fitting(raw: dict[str, Any]) -> None:
    """The loop of cluster.training: trains on this worker, resumes from the last reported epoch."""
    settings = Settings(**{**raw, "start": local_folder(raw["start"])})
    if not on_gpu():
        torch.set_num_threads(settings.num_threads)
    torch.manual_seed(settings.seed)
    data = Data(settings.pairs)
    towers = Towers(settings.start, shared=settings.shared, max_length=settings.max_length, scale=settings.scale)
    if on_gpu():
        towers.cuda()
    Fitting(settings, data, towers).run()


class Fitting:
    """The state of one training: towers, optimiser, metrics so far."""

    def __init__(self, settings: Settings, data: Data, towers: Towers) -> None:
        self._settings = settings
        self._data = data
        self._towers = towers
        self._weights = list(towers.parameters())
        self._optimiser = torch.optim.AdamW(
            self._weights, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        context = ray.train.get_context()
        self._rank, self._world = context.get_world_rank(), context.get_world_size()
        self._steps_an_epoch = max(1, math.ceil(len(data.train) / (settings.batch_queries * self._world)))
        # Without a warm-up the first steps can collapse all embeddings onto one point.
        warmup = max(1, self._steps_an_epoch // 2)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: min(1.0, (step + 1) / warmup))
        self._facts: dict[str, Any] = {"losses": [], "ndcg": [], "best_epoch": 0, "seconds": 0.0}
        self._best: dict[str, torch.Tensor] = {}

    def run(self) -> None:
        first = self._resume()
        if first == 0:
            self._measure(0)
        for epoch in range(first + 1, self._settings.epochs + 1):
            if epoch - 1 - self._facts["best_epoch"] >= self._settings.patience:
                break
            began = time.monotonic()
            self._facts["losses"].append(self._train(epoch))
            self._facts["seconds"] += time.monotonic() - began
            self._measure(epoch)
            self._report(epoch)
        if self._rank == 0:
            self._write()
        # Barrier: no worker may exit before rank 0 has written its files, so that a crash here is still retried.
        ray.train.report({"done": 1})

    def _train(self, epoch: int) -> float:
        """One epoch; the mean loss of this worker's batches."""
        # Seeded by seed, epoch and worker alone, so that a resumed training samples the same dropout.
        torch.manual_seed(hash((self._settings.seed, epoch, self._rank)) % 2**31)
        self._towers.train()
        total: float = 0.0
        batches = batches_of(self._data.train, self._settings, epoch, self._steps_an_epoch, self._world)
        for step, batch in enumerate(batches, start=1):
            size = self._settings.batch_queries
            loss = self._loss(batch[self._rank * size : (self._rank + 1) * size])
            self._optimiser.zero_grad()
            loss.backward()
            self._average_gradients()
            torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
            self._optimiser.step()
            self._schedule.step()
            total += float(loss.item())
            if self._rank == 0:
                done = (epoch - 1) * self._steps_an_epoch + step
                Steps(Path(self._settings.steps)).write(done, self._settings.epochs * self._steps_an_epoch)
        return float(total / self._steps_an_epoch)

    def _loss(self, batch: Sequence[Query]) -> torch.Tensor:
        places = sorted({place for one in batch for place in one.examples})
        column = {place: number for number, place in enumerate(places)}
        query_BD = self._towers.embed("query", [self._data.texts[one.query] for one in batch])
        example_ND = self._towers.embed("example", [self._data.texts[place] for place in places])
        own_BN = self._towers.scores(query_BD, example_ND)
        at_BK, gains_BK, mask_BK = (tensor.to(own_BN.device) for tensor in lists_of(batch, column))
        ranked = lambdarank_loss(own_BN.gather(1, at_BK), gains_BK, mask_BK, weight=self._settings.weight)
        best_B = at_BK.gather(1, gains_BK.masked_fill(~mask_BK, -torch.inf).argmax(dim=1, keepdim=True))[:, 0]
        group_N = self._data.groups[places].to(own_BN.device)
        group_B = self._data.groups[[one.query for one in batch]].to(own_BN.device)
        all_ND, all_group_N, all_places, offset = self._gathered(example_ND, group_N, places)
        all_BN = self._towers.scores(query_BD, all_ND)
        allowed_BN = all_group_N[None, :] != group_B[:, None]
        for row, one in enumerate(batch):
            # An example as good as the best one is not a negative, whichever worker holds it.
            best = max(one.utilities)
            equal = {place for place, utility in zip(one.examples, one.utilities, strict=True) if utility == best}
            allowed_BN[row] &= torch.tensor([place not in equal for place in all_places], device=allowed_BN.device)
        return mixed_loss(ranked, in_batch_loss(all_BN, offset + best_B, allowed_BN), self._settings.lambda_rank)

    def _gathered(
        self, example_ND: torch.Tensor, group_N: torch.Tensor, places: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, list[int], int]:
        """The examples of all workers with their groups and row numbers, and the offset of this worker's.

        The embeddings of other workers have no gradient here: each worker's queries train its own examples.
        """
        if self._world == 1:
            return example_ND, group_N, places, 0
        # Workers hold different numbers of examples, so objects are gathered, on the CPU; N x D is small enough.
        held: list[Any] = [None] * self._world
        dist.all_gather_object(held, (example_ND.detach().cpu(), group_N.cpu(), places))
        offset = sum(len(group) for _, group, _ in held[: self._rank])
        parts = [vectors.to(example_ND.device) for vectors, _, _ in held]
        parts[self._rank] = example_ND
        groups = torch.cat([group.to(group_N.device) for _, group, _ in held])
        return torch.cat(parts), groups, [place for _, _, some in held for place in some], offset

    def _average_gradients(self) -> None:
        if self._world == 1:
            return
        for weight in self._weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            dist.all_reduce(weight.grad)
            weight.grad /= self._world

    def _measure(self, epoch: int) -> None:
        """NDCG@4 on the held-out queries, by rank 0 and broadcast, since all workers must stop together."""
        found: list[Any] = [self._ndcg() if self._rank == 0 else None]
        if self._world > 1:
            dist.broadcast_object_list(found, src=0)
        self._facts["ndcg"].append(found[0])
        if found[0] > max(self._facts["ndcg"][:-1], default=-math.inf):
            self._facts["best_epoch"] = epoch
            self._best = {name: value.detach().cpu().clone() for name, value in self._towers.state_dict().items()}

    @torch.no_grad()
    def _ndcg(self) -> float:
        self._towers.eval()
        embedded = {
            "query": sorted({one.query for one in self._data.dev}),
            "example": sorted({place for one in self._data.dev for place in one.examples}),
        }
        vectors: dict[int, torch.Tensor] = {}
        for side, places in embedded.items():
            for start in range(0, len(places), 32):
                chunk = places[start : start + 32]
                found = self._towers.embed(side, [self._data.texts[place] for place in chunk])  # type: ignore[arg-type]
                vectors.update(zip(chunk, found, strict=True))
        return _mean(
            order_ndcg(one.utilities, [float(vectors[one.query] @ vectors[place]) for place in one.examples])
            for one in self._data.dev
        )

    def _report(self, epoch: int) -> None:
        if self._rank:
            ray.train.report({"epoch": epoch})
            return
        with tempfile.TemporaryDirectory() as scratch:
            state = {
                "towers": self._towers.state_dict(),
                "best": self._best,
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict(),
            }
            torch.save(state, Path(scratch) / "state.pt")
            write_text(Path(scratch) / "facts.json", json.dumps({**self._facts, "epoch": epoch}))
            ray.train.report({"epoch": epoch}, checkpoint=ray.train.Checkpoint.from_directory(scratch))

    def _resume(self) -> int:
        """The last completed epoch; 0: none."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return 0
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", weights_only=True, map_location="cpu")
            self._facts = json.loads((Path(folder) / "facts.json").read_text())
        self._towers.load_state_dict(state["towers"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._best = state["best"]
        return int(self._facts.pop("epoch"))

    def _write(self) -> None:
        self._towers.load_state_dict(self._best)
        measured = self._facts["ndcg"]
        best = self._facts["best_epoch"]
        scores = {
            "before": measured[0],
            "after": measured[best],
            "random": _mean(random_ndcg(one.utilities) for one in self._data.dev),
        }
        facts = {**self._facts, "by_epoch": measured, "ndcg": scores, "num_epochs": len(measured) - 1}
        self._towers.save(Path(self._settings.out), model_card(self._settings, facts, len(self._data.train)))
        write_text(Path(self._settings.out) / "fit.json", json.dumps(facts, indent=1))


def batches_of(queries: Sequence[Query], settings: Settings, epoch: int, number: int, world: int) -> list[list[Query]]:
    """Batches for all workers together, each of one task; the same for the same seed and epoch on every worker.

    A task is sampled in proportion to size ** task_power; its queries come in a shuffled order, without repeats within
    a pass over them.

    Args:
        queries: of all tasks.
        settings: `seed`, `task_power` and `batch_queries` count.
        epoch: from 1.
        number: of batches.
        world: number of workers.

    Returns:
        `number` batches of `batch_queries` x `world` queries.
    """
    drawing = random.Random(f"{settings.seed}/{epoch}")
    by_task: dict[str, list[Query]] = {}
    for one in queries:
        by_task.setdefault(one.task, []).append(one)
    names = sorted(by_task)
    shares = [len(by_task[name]) ** settings.task_power for name in names]
    waiting: dict[str, list[Query]] = {name: [] for name in names}
    size = settings.batch_queries * world
    batches = []
    for _ in range(number):
        (name,) = drawing.choices(names, shares)
        while len(waiting[name]) < size:
            waiting[name] += drawing.sample(by_task[name], len(by_task[name]))
        batches.append(waiting[name][:size])
        waiting[name] = waiting[name][size:]
    return batches


def lists_of(batch: Sequence[Query], column: dict[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Columns, gains and mask (B x K each) of the queries' examples; masked places point to column 0."""
    width = max(len(one.examples) for one in batch)
    at = torch.zeros((len(batch), width), dtype=torch.long)
    gains = torch.zeros((len(batch), width))
    mask = torch.zeros((len(batch), width), dtype=torch.bool)
    for row, one in enumerate(batch):
        number = len(one.examples)
        at[row, :number] = torch.tensor([column[place] for place in one.examples])
        gains[row, :number] = torch.tensor(one.utilities)
        mask[row, :number] = True
    return at, gains, mask


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def model_card(settings: Settings, facts: dict[str, Any], num_train: int) -> str:
    """README.md of a tower.

    Args:
        settings: of the training.
        facts: what `fit.json` holds.
        num_train: training queries.

    Returns:
        The text, with SIDE in place of `query` or `example`.
    """
    ndcg_found = facts["ndcg"]
    return f"""---
base_model: {settings.source}
library_name: sentence-transformers
---
# SIDE tower of an example retriever

Made by `inverdict fit` from what a judge's error was with each example in its prompt. The query tower reads the text to
be judged, the example tower a rated text with its human score; the cosine of the two says how much the example helps.

- {num_train} texts to train on, {facts["num_epochs"]} epochs, best after epoch {facts["best_epoch"]}
- NDCG@{NDCG_AT} on held-out groups, on which the epoch was chosen: {ndcg_found["after"]:.3f}; before training
  {ndcg_found["before"]:.3f}, random order {ndcg_found["random"]:.3f}
- loss: LambdaRank ({settings.weight}) x {settings.lambda_rank}, in-batch negatives x {1 - settings.lambda_rank:.2g}
- learning rate {settings.learning_rate}, batches of {settings.batch_queries} texts a worker, texts cut at \
{settings.max_length} tokens, seed {settings.seed}
"""

"""One part of the GPU check in a process of its own: prints its figures as a line of JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.bench.gpu_check.__main__ import CLIENTS, CLIENTS_ON_CPU, RECORDS, RECORDS_ON_CPU, TORCH_PARTS


def main(part: str, model: str, num_gpus: str, scratch: str) -> None:
    has_gpu = int(num_gpus) > 0
    # `labels` reads what `batch` has left.
    folder = Path(scratch) / ("batch" if part == "labels" else part)
    folder.mkdir(exist_ok=True)
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    if part in TORCH_PARTS:
        from tests.bench.gpu_check import torch_parts

        found = getattr(torch_parts, part)(folder, "1.5b" if has_gpu else "tiny")
    else:
        from tests.bench.gpu_check import engine_parts

        records, clients = (RECORDS, CLIENTS) if has_gpu else (RECORDS_ON_CPU, CLIENTS_ON_CPU)
        found = getattr(engine_parts, part)(folder, engine_parts.Load(model, has_gpu, records, clients))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a run told W&B, read back from its offline files."""

import json
import struct
import time

from wandb.proto import wandb_internal_pb2

BLOCK = 32768


def records(file):
    """The records of a .wandb file: a LevelDB log behind a header of 7 bytes; a record may be cut over blocks."""
    data, position, parts, found = file.read_bytes(), 7, b"", []
    while position + 7 <= len(data):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # full, last
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def items(entries):
    return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


class Logged:
    """One offline part of a run: its id, its config, its history rows, its summary and its artifacts."""

    def __init__(self, folder):
        found, deadline = [], time.monotonic() + 30
        # W&B's own process writes the file, and may be behind.
        while not any(record.HasField("exit") for record in found) and time.monotonic() < deadline:
            time.sleep(0.05)
            found = records(next(folder.glob("*.wandb")))
        runs = [record.run for record in found if record.HasField("run")]
        self.id = runs[0].run_id
        updates = [*(run.config.update for run in runs), *(r.config.update for r in found if r.HasField("config"))]
        self.config = {name: value for update in updates for name, value in items(update).items()}
        self.history = [items(record.history.item) for record in found if record.HasField("history")]
        self.metrics = {record.metric.glob_name or record.metric.name: record.metric for record in found
                        if record.HasField("metric")}  # fmt: skip
        self.summary = {name: value for r in found for name, value in items(r.summary.update).items()}
        self.artifacts = [
            record.request.log_artifact.artifact for record in found if record.request.HasField("log_artifact")
        ]
        self.artifacts += [record.artifact for record in found if record.HasField("artifact")]
        self.exit_code = next(record.exit.exit_code for record in found if record.HasField("exit"))

"""Drains this node when the cloud takes the machine back: `python deploy/drain_on_notice.py aws|gcp`, beside Ray.

Without it Ray learns of a reclaimed spot machine from its silence. A drained node gets no new work, Serve moves its
replicas, and Ray Train does not count the loss of its workers as a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request

METADATA = os.environ.get("INVERDICT_METADATA", "http://169.254.169.254")
POLL_S = float(os.environ.get("INVERDICT_POLL_S", "5"))
GRACE_S = {"aws": 120, "gcp": 30}  # from the notice to the end of the machine


def read(path: str, method: str = "GET", **headers: str) -> str | None:
    """The answer of the machine's metadata service; None: there is none, or 404."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{METADATA}/{path}", method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:  # urllib's errors are of this class
        return None


def is_reclaimed(cloud: str) -> bool:
    """Whether the cloud has announced the end of this machine."""
    if cloud == "gcp":
        return read("computeMetadata/v1/instance/preempted", Metadata_Flavor="Google") == "TRUE"
    token = read("latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
    return read("latest/meta-data/spot/instance-action", X_aws_ec2_metadata_token=token or "") is not None


def main(cloud: str) -> int:
    while not is_reclaimed(cloud):
        time.sleep(POLL_S)
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", f"reclaimed by {cloud}"]
    deadline = ["--deadline-remaining-seconds", str(GRACE_S[cloud] - 10)]
    return subprocess.run(["ray", "drain-node", "--address", "auto", *reason, *deadline], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
